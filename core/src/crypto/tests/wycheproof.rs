//! Wycheproof vectors for every primitive, in each implementation that the product uses for it.

use crate::crypto::recipient::{oaep_decrypt, oaep_private};
use crate::crypto::{RecipientPublicKey, VerifyingKey, bulk, second};
use aws_lc_rs::rsa::OAEP_SHA256_MGF1SHA256;
use wycheproof::{aead, eddsa, hkdf, mac, mlkem, rsa_oaep};

#[test]
fn aes_256_gcm() {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        // The envelope knows this nonce and tag size alone.
        if (group.key_size, group.nonce_size, group.tag_size) != (256, 96, 128) {
            continue;
        }
        for test in group.tests {
            let (key, nonce) =
                (test.key.as_ref().try_into().unwrap(), test.nonce.as_ref().try_into().unwrap());
            let tag: &[u8; 16] = test.tag.as_ref().try_into().unwrap();
            for provider in [bulk(), second()] {
                let aead = provider.aead(key);
                let at = format!("{} test {}", provider.name(), test.tc_id);
                let mut data = test.ct.to_vec();
                let opened = aead.open(nonce, &test.aad, &mut data, tag);
                assert_eq!(opened.is_ok(), !test.result.must_fail(), "{at}");
                if opened.is_ok() {
                    assert_eq!(data, test.pt.as_ref(), "{at}");
                    assert_eq!(&aead.seal(nonce, &test.aad, &mut data).unwrap(), tag, "{at}");
                    assert_eq!(data, test.ct.as_ref(), "{at}");
                }
            }
            count += 1;
        }
    }
    assert!(count >= 60, "only {count} vectors");
}

#[test]
fn hmac_sha_256() {
    let set = mac::TestSet::load(mac::TestName::HmacSha256).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        for test in group.tests {
            for provider in [bulk(), second()] {
                let mut mac = provider.mac(&test.key);
                for piece in test.msg.chunks(7) {
                    mac.update(piece);
                }
                let code = mac.finish();
                let fits = code[..group.tag_size / 8] == *test.tag;
                assert_eq!(fits, !test.result.must_fail(), "{} test {}", provider.name(), test.tc_id);
            }
            count += 1;
        }
    }
    assert!(count >= 100, "only {count} vectors");
}

/// The envelope derives 32 bytes; HKDF's shorter and longer outputs share their beginning with those.
#[test]
fn hkdf_sha_256() {
    let set = hkdf::TestSet::load(hkdf::TestName::HkdfSha256).unwrap();
    let mut count = 0;
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        if test.result.must_fail() {
            continue; // asks for more than 8160 bytes, which the interface cannot express
        }
        let length = test.size.min(32);
        for provider in [bulk(), second()] {
            let (first, rest) = test.info.split_at(test.info.len() / 2);
            let key = provider.kdf(&test.ikm, &test.salt).expand(&[first, rest]).unwrap();
            assert_eq!(key[..length], test.okm[..length], "{} test {}", provider.name(), test.tc_id);
        }
        count += 1;
    }
    assert!(count >= 50, "only {count} vectors");
}

/// Decryption by aws-lc-rs, which the product uses, and by the `rsa` crate, which it uses for making keys.
#[test]
fn rsa_oaep_sha_256() {
    use rsa::pkcs8::DecodePrivateKey;
    use rsa_oaep::TestName::{
        Rsa2048Sha256Mgf1Sha256, Rsa3072Sha256Mgf1Sha256, Rsa4096Sha256Mgf1Sha256, RsaMisc,
    };
    let mut count = 0;
    for name in [Rsa2048Sha256Mgf1Sha256, Rsa3072Sha256Mgf1Sha256, Rsa4096Sha256Mgf1Sha256, RsaMisc] {
        for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
            let sha256 = |hash| matches!(hash, wycheproof::HashFunction::Sha2_256);
            if !sha256(group.hash) || !sha256(group.mgf_hash) || ![2048, 3072, 4096].contains(&group.key_size)
            {
                continue;
            }
            let bulk = oaep_private(&group.pkcs8).unwrap();
            let second = rsa::RsaPrivateKey::from_pkcs8_der(&group.pkcs8).unwrap();
            for test in group.tests {
                let padding = rsa::Oaep::<sha2::Sha256>::new_with_label(test.label.as_ref());
                let by_second = second.decrypt(padding, &test.ct).ok();
                let by_bulk = if test.label.is_empty() {
                    oaep_decrypt(&bulk, &test.ct).ok().map(|plaintext| plaintext.to_vec())
                } else {
                    let mut buffer = vec![0; bulk.min_output_size()];
                    let label = Some(test.label.as_ref());
                    let opened = bulk.decrypt(&OAEP_SHA256_MGF1SHA256, &test.ct, &mut buffer, label);
                    opened.ok().map(|plaintext| plaintext.to_vec())
                };
                for (who, opened) in [("aws-lc-rs", by_bulk), ("rsa", by_second)] {
                    assert_eq!(
                        opened.is_some(),
                        !test.result.must_fail(),
                        "{who} {name:?} test {}",
                        test.tc_id
                    );
                    if let Some(plaintext) = opened {
                        assert_eq!(plaintext, test.pt.as_ref(), "{who} {name:?} test {}", test.tc_id);
                    }
                }
                count += 1;
            }
        }
    }
    assert!(count >= 90, "only {count} vectors");
}

/// The vectors sign bare messages, so they go to the primitive beneath [`VerifyingKey`].
#[test]
fn ed25519() {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in set.test_groups {
        VerifyingKey::from_bytes(&group.key.pk).unwrap();
        let key = UnparsedPublicKey::new(&ED25519, group.key.pk.as_ref());
        for test in group.tests {
            let verified = key.verify(&test.msg, &test.sig).is_ok();
            assert_eq!(verified, !test.result.must_fail(), "test {}", test.tc_id);
            count += 1;
        }
    }
    assert!(count >= 100, "only {count} vectors");
}

/// Decapsulation, implicit rejection included, by aws-lc-rs (product) and ml-kem (test).
#[test]
#[expect(deprecated, reason = "aws-lc-rs takes the expanded form of decapsulation keys")]
fn mlkem_768_decapsulation() {
    use aws_lc_rs::kem::{Ciphertext, DecapsulationKey, ML_KEM_768};
    use ml_kem::{Decapsulate, ExpandedKeyEncoding, KeyExport, MlKem768};
    let mut count = 0;
    for name in [mlkem::TestName::MlKem768, mlkem::TestName::MlKem768SemiExpandedDecaps] {
        for test in mlkem::TestSet::load(name).unwrap().test_groups.into_iter().flat_map(|group| group.tests)
        {
            let from_seed = bytes(&test.seed).try_into().ok();
            let key = match from_seed {
                Some(seed) => {
                    let key = ml_kem::DecapsulationKey::<MlKem768>::from_seed(seed);
                    if let Some(public) = &test.encaps_key {
                        assert_eq!(key.encapsulation_key().to_bytes().as_slice(), &public[..]);
                    }
                    key.to_expanded_bytes().to_vec()
                }
                None => bytes(&test.decaps_key).to_vec(),
            };
            let ciphertext = bytes(&test.ct);
            let by_bulk = DecapsulationKey::new(&ML_KEM_768, &key)
                .ok()
                .and_then(|key| key.decapsulate(Ciphertext::from(ciphertext)).ok())
                .map(|secret| secret.as_ref().to_vec());
            let by_second = key
                .as_slice()
                .try_into()
                .ok()
                .and_then(|key| ml_kem::DecapsulationKey::<MlKem768>::from_expanded_bytes(key).ok())
                .and_then(|key| Some(key.decapsulate(ciphertext.try_into().ok()?).to_vec()));
            for (who, secret) in [("aws-lc-rs", by_bulk), ("ml-kem", by_second)] {
                assert_eq!(secret.is_some(), !test.result.must_fail(), "{who} {name:?} test {}", test.tc_id);
                if let Some(secret) = secret {
                    assert_eq!(secret, bytes(&test.shared_secret), "{who} test {}", test.tc_id);
                }
            }
            count += 1;
        }
    }
    assert!(count >= 200, "only {count} vectors");
}

/// Encapsulation keys that must be refused are refused before anything is sealed to them.
#[test]
fn mlkem_768_encapsulation_keys() {
    let rsa = super::keys::known_answer_key(None);
    let set = mlkem::TestSet::load(mlkem::TestName::MlKem768Encaps).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for test in set.test_groups.into_iter().flat_map(|group| group.tests) {
        let public = bytes(&test.encaps_key);
        let key = RecipientPublicKey::from_parts(rsa.public().spki_der(), Some(public));
        assert_eq!(key.is_ok(), !test.result.must_fail(), "test {}", test.tc_id);
        if key.is_ok() { accepted += 1 } else { refused += 1 }
    }
    assert!(accepted >= 100 && refused >= 100, "{accepted} accepted, {refused} refused");
}

fn bytes(field: &Option<wycheproof::ByteString>) -> &[u8] {
    field.as_ref().map(AsRef::as_ref).unwrap_or_default()
}
