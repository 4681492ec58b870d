use super::*;
use tobari_core::crypto::RecipientKind;

fn owner() -> Owner {
    Owner { id: String::from("0123"), name: String::from("みほん市") }
}

fn key() -> RecipientPrivateKey {
    RecipientPrivateKey::generate(RecipientKind::RsaOaep).unwrap()
}

fn fault(texts: &[&Zeroizing<String>]) -> (usize, ShareFault) {
    let texts: Vec<_> = texts.iter().map(|text| (*text).clone()).collect();
    match join(&texts) {
        Err(fault) => fault,
        Ok(_) => panic!("they are taken"),
    }
}

#[test]
fn a_key_comes_back_from_its_text() {
    let key = key();
    let text = key_text(&key, &owner());
    let (read_key, whose) = read(&text).unwrap();
    assert_eq!((read_key.export(), whose), (key.export(), owner()));
    assert_eq!(read(&text.replace('\n', "\r\n")).unwrap().0.export(), key.export());
    // As it was written before names were in it.
    let without = text.replace("Name: みほん市\n", "");
    assert_eq!(read(&without).unwrap().1, Owner { name: String::new(), ..owner() });
    for bad in ["", "junk", &text[..200], &text.replace("RECOVERY", "OTHER")] {
        assert!(read(bad).is_err());
    }
    assert!(read(&split(&key, &owner(), 2, 2).unwrap()[0]).is_err(), "a share is not the key");
}

#[test]
fn every_subset_of_the_shares_opens_or_says_how_many_are_missing() {
    let key = key();
    let shares = split(&key, &owner(), 3, 4).unwrap();
    for which in 0..16_u32 {
        let some: Vec<_> = (0..4).filter(|index| (which >> index) & 1 == 1).collect();
        let mut texts: Vec<_> = some.iter().map(|index: &usize| shares[*index].clone()).collect();
        // Whatever the order, and however line ends were changed on the way.
        texts.reverse();
        if let Some(text) = texts.first_mut() {
            *text = Zeroizing::new(text.replace('\n', "\r\n"));
        }
        match join(&texts).unwrap() {
            Joined::Key(joined, whose) => {
                assert!(some.len() >= 3);
                assert_eq!((joined.export(), whose), (key.export(), owner()));
            }
            Joined::TooFew { given, needed } => {
                assert!(some.len() < 3 && usize::from(given) == some.len());
                assert_eq!(needed, if some.is_empty() { 2 } else { 3 });
            }
            Joined::NotTheKey => panic!("{some:?}"),
        }
    }
    for (needed, count) in [(0, 3), (1, 3), (4, 3)] {
        assert!(split(&key, &owner(), needed, count).is_none());
    }
}

#[test]
fn what_is_wrong_with_a_share_is_named() {
    let key = key();
    let shares = split(&key, &owner(), 2, 3).unwrap();
    let (one, two) = (&shares[0], &shares[1]);
    assert_eq!(fault(&[one, one]), (1, ShareFault::Twice(1)));
    let again = split(&key, &owner(), 2, 3).unwrap();
    assert_eq!(fault(&[one, &again[1]]), (1, ShareFault::OtherSet));
    let foreign = split(&self::key(), &owner(), 2, 3).unwrap();
    assert_eq!(fault(&[one, two, &foreign[2]]), (2, ShareFault::OtherKey));
    let junk = Zeroizing::new(String::from("junk"));
    assert_eq!(fault(&[one, &junk]), (1, ShareFault::Malformed));
    assert_eq!(fault(&[&key_text(&key, &owner())]), (0, ShareFault::Malformed));
    let later = Zeroizing::new(two.replace("Version: 1", "Version: 2"));
    assert_eq!(fault(&[&later]), (0, ShareFault::Version));
}

#[test]
fn every_changed_character_of_a_share_is_noticed() {
    let shares = split(&key(), &owner(), 2, 2).unwrap();
    let text = &shares[0];
    let begin = text.find("Version: ").unwrap();
    let end = text.find("-----END").unwrap();
    let mut tried = 0;
    for (at, character) in text.char_indices().filter(|(at, _)| (begin..end).contains(at)) {
        if !character.is_ascii_alphanumeric() {
            continue;
        }
        let other = if character == '7' { '8' } else { '7' };
        let mut changed = (**text).clone();
        changed.replace_range(at..at + 1, &other.to_string());
        let (_, found) = fault(&[&Zeroizing::new(changed)]);
        assert!(matches!(found, ShareFault::Damaged | ShareFault::Version), "{at}: {found:?}");
        tried += 1;
    }
    assert!(tried > 1000);
}

/// Whoever writes "2 needed" on shares of which 3 are needed, checksum and all, gets nothing of the key.
#[test]
fn fewer_shares_passed_off_as_enough_give_nothing() {
    let key = key();
    let shares = split(&key, &owner(), 3, 3).unwrap();
    let lies: Vec<_> = shares.iter().take(2).map(|text| shares::test_only_with_needed(text, 2)).collect();
    assert!(matches!(join(&lies), Ok(Joined::NotTheKey)));
    // The same lie about two of two is none.
    let two = split(&key, &owner(), 2, 2).unwrap();
    let same: Vec<_> = two.iter().map(|text| shares::test_only_with_needed(text, 2)).collect();
    assert!(matches!(join(&same), Ok(Joined::Key(..))));
}
