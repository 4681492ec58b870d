//! The product's own key types: round trips, and what must be refused.

use crate::crypto::{
    CryptoError, Dek, FileKeys, GrantKeyPair, GrantOpener, GrantSealer, RecipientKind, RecipientPrivateKey,
    RecipientPublicKey, RootKey, SharedSecret, SigningKey, VerifyingKey, WrapContext, bulk, second,
    self_check, sha256,
};
use crate::ids::FileId;
use zeroize::Zeroizing;

/// A recipient of the published self-check RSA key, so that tests need not make one each.
pub(super) fn known_answer_key(mlkem: Option<&[u8]>) -> RecipientPrivateKey {
    let pkcs8 = Zeroizing::new(include_bytes!("../known_answer_rsa.der").to_vec());
    RecipientPrivateKey::from_parts(pkcs8, mlkem.map(|bytes| Zeroizing::new(bytes.to_vec()))).unwrap()
}

#[test]
fn the_self_check_passes_here() {
    self_check().unwrap();
}

#[test]
fn recipient_keys_survive_storage() {
    for kind in [RecipientKind::RsaOaep, RecipientKind::RsaOaepMlkem768] {
        let key = RecipientPrivateKey::generate(kind).unwrap();
        let stored = key.export();
        let again = RecipientPrivateKey::import(&stored).unwrap();
        assert_eq!(again.export().as_slice(), stored.as_slice());
        assert_eq!(again.public(), key.public());
        let public = RecipientPublicKey::try_from(&key.public().to_proto()).unwrap();
        assert_eq!((public.kind(), public.key_id()), (kind, key.public().key_id()));
        let (encapsulation, sent) = public.encapsulate().unwrap();
        assert_eq!(again.decapsulate(&encapsulation).unwrap().expose(), sent.expose());

        for end in [0, 4, 5, 6, 9, 10, 100, stored.len() - 1] {
            assert_eq!(
                RecipientPrivateKey::import(&stored[..end]).err(),
                Some(CryptoError::InvalidKey),
                "{end}"
            );
        }
        let longer = [stored.as_slice(), &[0]].concat();
        assert_eq!(RecipientPrivateKey::import(&longer).err(), Some(CryptoError::InvalidKey));
    }
}

#[test]
fn a_damaged_stored_key_is_refused() {
    let key = RecipientPrivateKey::generate(RecipientKind::RsaOaepMlkem768).unwrap().export();
    let mlkem_start = key.len() - 2400;
    // Vector s, encapsulation key, its hash: all but the implicit-rejection seed, which no pair check sees.
    for at in [mlkem_start, mlkem_start + 1152, mlkem_start + 2340, 200] {
        let mut damaged = key.to_vec();
        damaged[at] ^= 1;
        assert_eq!(RecipientPrivateKey::import(&damaged).err(), Some(CryptoError::InvalidKey), "at {at}");
    }
}

#[test]
fn every_failed_decapsulation_looks_alike() {
    let key = known_answer_key(None);
    let other = RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap();
    let (encapsulation, _) = key.public().encapsulate().unwrap();
    let mut flipped = encapsulation.clone();
    flipped[17] ^= 1;
    let longer = [encapsulation.as_slice(), &[0]].concat();
    let too_short_secret = oaep_of(&key, &[7; 31]);
    let too_long_secret = oaep_of(&key, &[7; 33]);
    for (what, bytes) in [
        ("empty", &[][..]),
        ("flipped", &flipped),
        ("cut", &encapsulation[..255]),
        ("longer", &longer),
        ("all ones", &[0xff; 256]),
        ("zero", &[0; 256]),
        ("31-byte secret", &too_short_secret),
        ("33-byte secret", &too_long_secret),
    ] {
        assert_eq!(key.decapsulate(bytes).err(), Some(CryptoError::Refused), "{what}");
    }
    assert_eq!(other.decapsulate(&encapsulation).err(), Some(CryptoError::Refused));
}

fn oaep_of(key: &RecipientPrivateKey, secret: &[u8]) -> Vec<u8> {
    use rsa::pkcs8::DecodePublicKey;
    let public = rsa::RsaPublicKey::from_public_key_der(key.public().spki_der()).unwrap();
    public.encrypt(&mut rand::rng(), rsa::Oaep::<sha2::Sha256>::new(), secret).unwrap()
}

#[test]
fn unsupported_public_keys_are_refused() {
    use rsa::pkcs8::EncodePublicKey;
    let odd = |bits: u32, exponent: u32| {
        // A modulus of this size; whether it is a product of primes does not matter to the check.
        let mut bytes = vec![0xff; bits as usize / 8];
        bytes[bits as usize / 8 - 1] = 0x01;
        let modulus = rsa::BoxedUint::from_be_slice(&bytes, bits).unwrap();
        let key = rsa::RsaPublicKey::new_with_size_limits(modulus, exponent.into(), 512..=8192).unwrap();
        key.to_public_key_der().unwrap().into_vec()
    };
    assert!(RecipientPublicKey::from_parts(&odd(2048, 65537), None).is_ok());
    assert!(RecipientPublicKey::from_parts(&odd(3072, 65537), None).is_ok());
    assert!(RecipientPublicKey::from_parts(&odd(4096, 65537), None).is_ok());
    let good = odd(2048, 65537);
    for (what, spki) in [
        ("1024 bits", odd(1024, 65537)),
        ("2040 bits", odd(2040, 65537)),
        ("8192 bits", odd(8192, 65537)),
        ("exponent 3", odd(2048, 3)),
        ("trailing byte", [good.as_slice(), &[0]].concat()),
        ("cut", good[..good.len() - 1].to_vec()),
        ("empty", Vec::new()),
    ] {
        assert_eq!(
            RecipientPublicKey::from_parts(&spki, None).err(),
            Some(CryptoError::InvalidKey),
            "{what}"
        );
    }
    for length in [0, 1183, 1185] {
        let mlkem = vec![0; length];
        assert_eq!(RecipientPublicKey::from_parts(&good, Some(&mlkem)).err(), Some(CryptoError::InvalidKey));
    }
}

#[test]
fn a_wrapped_dek_opens_only_in_its_context() {
    let dek = Dek::generate();
    let secret = SharedSecret::from_parts(&[1; 32], None);
    let hybrid = SharedSecret::from_parts(&[1; 32], Some(&[2; 32]));
    let (key_id, other_key_id) =
        (known_answer_key(None).public().key_id(), super::super::KeyId::from_bytes([9; 32]));
    let (file, other_file) = (FileId::from_bytes([3; 16]), FileId::from_bytes([4; 16]));
    let context = WrapContext {
        kind: RecipientKind::RsaOaep,
        key_id: &key_id,
        encapsulation_hash: &[5; 32],
        file: &file,
        policy_hash: &[6; 32],
    };
    let wrapped = secret.wrap_dek(&context, &dek).unwrap();
    assert_eq!(secret.unwrap_dek(&context, &wrapped).unwrap().expose(), dek.expose());

    for (what, other) in [
        ("key id", WrapContext { key_id: &other_key_id, ..context }),
        ("encapsulation", WrapContext { encapsulation_hash: &[7; 32], ..context }),
        ("file", WrapContext { file: &other_file, ..context }),
        ("policy", WrapContext { policy_hash: &[7; 32], ..context }),
        ("kind", WrapContext { kind: RecipientKind::RsaOaepMlkem768, ..context }),
    ] {
        assert_eq!(secret.unwrap_dek(&other, &wrapped).err(), Some(CryptoError::Refused), "{what}");
    }
    assert_eq!(hybrid.unwrap_dek(&context, &wrapped).err(), Some(CryptoError::Refused));
    assert_eq!(hybrid.wrap_dek(&context, &dek).err(), Some(CryptoError::Refused));
    for at in 0..wrapped.len() {
        let mut flipped = wrapped;
        flipped[at] ^= 0x80;
        assert_eq!(secret.unwrap_dek(&context, &flipped).err(), Some(CryptoError::Refused), "byte {at}");
        assert_eq!(
            secret.unwrap_dek(&context, &wrapped[..at]).err(),
            Some(CryptoError::Refused),
            "length {at}"
        );
    }
    let longer = [wrapped.as_slice(), &[0]].concat();
    assert_eq!(secret.unwrap_dek(&context, &longer).err(), Some(CryptoError::Refused));
}

/// Both providers, and a computation spelled out from the specification.
#[test]
fn file_keys_follow_the_specification() {
    let (dek, file) = (Dek::from_slice(&[0x42; 32]).unwrap(), FileId::from_bytes([0x17; 16]));
    let derive = |info: &[u8]| *second().kdf(dek.expose(), file.as_bytes()).expand(&[info]).unwrap();
    let code = |key: &[u8], message: &[u8]| {
        let mut mac = second().mac(key);
        mac.update(message);
        mac.finish()
    };
    for provider in [bulk(), second()] {
        let keys = FileKeys::with_provider(provider, &dek, &file).unwrap();
        assert_eq!(keys.header_mac(b"header"), code(&derive(b"tobari/1 header"), b"header"));
        assert!(keys.header_mac_fits(b"header", &code(&derive(b"tobari/1 header"), b"header")));
        assert!(!keys.header_mac_fits(b"header", &[0; 32]));
        assert!(!keys.header_mac_fits(b"header", &keys.header_mac(b"header")[..31]));
        assert_eq!(keys.state_mac(b"slot"), code(&derive(b"tobari/1 state"), b"slot"));
        assert!(keys.state_mac_fits(b"slot", &keys.state_mac(b"slot")));
        assert!(!keys.state_mac_fits(b"slot", &keys.header_mac(b"slot")));
        let mut root = keys.root();
        root.update(&[1; 16]);
        root.update(&[2; 16]);
        assert_eq!(root.finish(), code(&derive(b"tobari/1 state"), &[[1_u8; 16], [2; 16]].concat()));
        let mut sealed = *b"chunk";
        let tag = keys.content_aead(provider).seal(&[0; 12], b"aad", &mut sealed).unwrap();
        second().aead(&derive(b"tobari/1 content")).open(&[0; 12], b"aad", &mut sealed, &tag).unwrap();
        assert_eq!(&sealed, b"chunk");
    }
}

#[test]
fn the_root_key_opens_only_what_it_sealed_there() {
    let key = RootKey::generate();
    let sealed = key.seal(b"label_keys/1", b"secret").unwrap();
    let again = RootKey::from_bytes(*key.to_bytes());
    assert_eq!(again.open(b"label_keys/1", &sealed).unwrap().as_slice(), b"secret");
    assert_eq!(again.open(b"label_keys/2", &sealed).err(), Some(CryptoError::Refused));
    assert_eq!(RootKey::generate().open(b"label_keys/1", &sealed).err(), Some(CryptoError::Refused));
    for at in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[at] ^= 1;
        assert_eq!(key.open(b"label_keys/1", &flipped).err(), Some(CryptoError::Refused), "byte {at}");
        assert_eq!(key.open(b"label_keys/1", &sealed[..at]).err(), Some(CryptoError::Refused), "length {at}");
    }
    assert_ne!(sealed, key.seal(b"label_keys/1", b"secret").unwrap(), "the nonce is fresh");
    assert_eq!(RootKey::from_slice(&[0; 31]).err(), Some(CryptoError::InvalidKey));
}

#[test]
fn signatures_are_bound_to_their_context() {
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::import(&key.export()).unwrap();
    let verifying = VerifyingKey::from_bytes(&key.verifying_key().to_bytes()).unwrap();
    assert_eq!(verifying, again.verifying_key());
    let signature = again.sign("tobari/1 bulletin", b"payload");
    verifying.verify("tobari/1 bulletin", b"payload", &signature).unwrap();
    for (context, payload) in [
        ("tobari/1 lease", &b"payload"[..]),
        ("tobari/1 bulletin", b"payloae"),
        ("tobari/1 bulleti", b"n\0payload"),
        ("", b"tobari/1 bulletin\0payload"),
    ] {
        assert_eq!(verifying.verify(context, payload, &signature), Err(CryptoError::Refused));
    }
    let other = SigningKey::generate().unwrap().verifying_key();
    assert_eq!(other.verify("tobari/1 bulletin", b"payload", &signature), Err(CryptoError::Refused));
    assert!(VerifyingKey::from_bytes(&[0; 31]).is_err());
    assert!(SigningKey::import(&[0; 33]).is_err());
}

#[test]
fn grants_open_in_order_for_their_terminal_alone() {
    let pair = GrantKeyPair::generate().unwrap();
    let pair = GrantKeyPair::import(&pair.export()).unwrap();
    let (first, second) = (Dek::generate(), Dek::generate());
    let (encapsulated, mut sealer) = GrantSealer::new(&pair.public(), b"request").unwrap();
    let sealed = [sealer.seal(b"file 1", &first).unwrap(), sealer.seal(b"file 2", &second).unwrap()];

    let mut opener = GrantOpener::new(&pair, &encapsulated, b"request").unwrap();
    assert_eq!(opener.open(b"file 1", &sealed[0]).unwrap().expose(), first.expose());
    assert_eq!(opener.open(b"file 2", &sealed[1]).unwrap().expose(), second.expose());

    let open_first = |pair: &GrantKeyPair, info: &[u8], aad: &[u8], sealed: &[u8]| {
        GrantOpener::new(pair, &encapsulated, info)?.open(aad, sealed).map(|_| ())
    };
    let other = GrantKeyPair::generate().unwrap();
    assert_eq!(open_first(&pair, b"request", b"file 1", &sealed[0]), Ok(()));
    assert_eq!(open_first(&pair, b"request", b"file 2", &sealed[1]), Err(CryptoError::Refused));
    assert_eq!(open_first(&pair, b"another", b"file 1", &sealed[0]), Err(CryptoError::Refused));
    assert_eq!(open_first(&pair, b"request", b"file 9", &sealed[0]), Err(CryptoError::Refused));
    assert_eq!(open_first(&other, b"request", b"file 1", &sealed[0]), Err(CryptoError::Refused));
    assert!(GrantSealer::new(&[4; 65], b"").is_err());
    assert!(GrantOpener::new(&pair, &[4; 65], b"").is_err());

    let mixed = [&pair.export()[..65], &other.export()[65..]].concat();
    assert_eq!(GrantKeyPair::import(&mixed).err(), Some(CryptoError::InvalidKey));
    assert_eq!(GrantKeyPair::import(&mixed[..96]).err(), Some(CryptoError::InvalidKey));
}

#[test]
fn key_ids_and_hashes() {
    let rsa = known_answer_key(None);
    assert_eq!(rsa.public().key_id().as_bytes(), &sha256(&[rsa.public().spki_der()]));
    assert_eq!(RecipientKind::from_name("rsa-oaep"), Some(RecipientKind::RsaOaep));
    assert_eq!(RecipientKind::from_name("rsa-oaep+mlkem768"), Some(RecipientKind::RsaOaepMlkem768));
    assert_eq!(RecipientKind::from_name("RSA-OAEP"), None);
}
