//! aws-lc-rs's ML-KEM-768 beside the `ml-kem` crate, in both directions.

use crate::crypto::{RecipientKind, RecipientPrivateKey, RecipientPublicKey};
use ml_kem::{Decapsulate, Encapsulate, Generate, KeyExport, MlKem768};

#[test]
#[expect(deprecated, reason = "aws-lc-rs takes the expanded form of decapsulation keys")]
fn our_encapsulation_opens_in_the_other_implementation() {
    use ml_kem::ExpandedKeyEncoding;
    let other = ml_kem::DecapsulationKey::<MlKem768>::generate();
    let rsa = super::keys::known_answer_key(None);
    let public = other.encapsulation_key().to_bytes();
    let recipient = RecipientPublicKey::from_parts(rsa.public().spki_der(), Some(public.as_slice())).unwrap();
    assert_eq!(recipient.kind(), RecipientKind::RsaOaepMlkem768);
    let (encapsulation, secret) = recipient.encapsulate().unwrap();
    let opened = other.decapsulate(encapsulation[256..].try_into().unwrap());
    assert_eq!(secret.expose()[32..], *opened);

    // The whole key in our form, made of the other implementation's expanded key.
    let ours = super::keys::known_answer_key(Some(other.to_expanded_bytes().as_slice()));
    assert_eq!(ours.public(), &recipient);
    assert_eq!(ours.decapsulate(&encapsulation).unwrap().expose(), secret.expose());
}

#[test]
fn the_other_implementations_encapsulation_opens_in_ours() {
    let ours = RecipientPrivateKey::generate(RecipientKind::RsaOaepMlkem768).unwrap();
    let public = ours.public().mlkem768().unwrap().try_into().unwrap();
    let other = ml_kem::EncapsulationKey::<MlKem768>::new(public).unwrap();
    let (ciphertext, shared) = other.encapsulate_with_rng(&mut rand::rng());
    let (mut encapsulation, secret) = ours.public().encapsulate().unwrap();
    encapsulation.truncate(256);
    encapsulation.extend_from_slice(&ciphertext);
    let opened = ours.decapsulate(&encapsulation).unwrap();
    assert_eq!(opened.expose()[..32], secret.expose()[..32]);
    assert_eq!(opened.expose()[32..], *shared);
}
