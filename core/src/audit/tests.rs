use super::*;
use crate::crypto::{SigningKey, sha256};
use crate::ids::{FileId, OrganisationId, PersonId, TerminalId};
use crate::policy::Right;
use crate::proto::api::AuditReceipt;
use crate::proto::base64::Base64;
use data_encoding::HEXLOWER;
use proptest::prelude::*;

const ORGANISATION: OrganisationId = OrganisationId::from_bytes([9; 16]);

/// The tree as RFC 6962 defines it, straight from the definition.
fn naive(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(&[]),
        [leaf] => *leaf,
        leaves => {
            let half = leaves.len().next_power_of_two() / 2;
            let (left, right) = leaves.split_at(half);
            node_hash(&naive(left), &naive(right))
        }
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|number| leaf_hash(&number.to_be_bytes())).collect()
}

fn frontier(leaves: &[Hash]) -> Frontier {
    let mut frontier = Frontier::default();
    leaves.iter().for_each(|leaf| frontier.push(*leaf));
    frontier
}

fn signer() -> LogSigner {
    LogSigner::new(&log_name(ORGANISATION), SigningKey::import(&[7; 32]).unwrap()).unwrap()
}

/// The records and roots of the tests of Certificate Transparency (google/certificate-transparency, merkletree).
#[test]
fn roots_are_those_of_certificate_transparency() {
    let records =
        ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(HEXLOWER.encode(&Frontier::default().root()), empty);
    let mut tree = Frontier::default();
    for (record, root) in records.iter().zip(roots) {
        tree.push(leaf_hash(&HEXLOWER.decode(record.as_bytes()).unwrap()));
        assert_eq!(HEXLOWER.encode(&tree.root()), root);
    }
    // PATH(0, D[8]), from the same tests.
    let leaves: Vec<Hash> =
        records.iter().map(|record| leaf_hash(&HEXLOWER.decode(record.as_bytes()).unwrap())).collect();
    let path = Growth::new(Frontier::default(), leaves).prove(0..1).unwrap();
    let path: Vec<String> = path.iter().map(|hash| HEXLOWER.encode(hash)).collect();
    assert_eq!(
        path,
        [
            "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
            "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
            "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
        ]
    );
}

#[test]
fn every_append_gives_the_tree_of_the_definition_and_proves_each_range() {
    for before in 0..20 {
        for more in 0..20 {
            let all = leaves(before + more);
            let (old, new) = all.split_at(before as usize);
            let growth = Growth::new(frontier(old), new.to_vec());
            assert_eq!(growth.after(), &frontier(&all));
            assert_eq!(growth.after().root(), naive(&all));
            for first in before..before + more {
                for end in first + 1..=before + more {
                    let proof = growth.prove(first..end).unwrap();
                    let range = &all[first as usize..end as usize];
                    assert_eq!(root_of(first, range, before + more, &proof), Some(naive(&all)));
                }
            }
            assert_eq!(growth.prove(before..before), None);
            assert_eq!(growth.prove(before..before + more + 1), None);
        }
    }
}

#[test]
fn stored_nodes_are_those_of_the_whole_tree() {
    let all = leaves(1000);
    let mut stored = std::collections::BTreeMap::new();
    let mut tree = Frontier::default();
    for batch in all.chunks(37) {
        let growth = Growth::new(tree, batch.to_vec());
        stored.extend(growth.stored().map(|(level, position, hash)| ((level, position), hash)));
        tree = growth.after().clone();
    }
    let whole: Vec<((u32, u64), Hash)> =
        all.chunks_exact(256).zip(0..).map(|(part, position)| ((8, position), naive(part))).collect();
    assert_eq!(stored.into_iter().collect::<Vec<_>>(), whole);
}

fn over(all: &[Hash], part: &std::ops::Range<u64>) -> Hash {
    naive(&all[part.start as usize..part.end as usize])
}

#[test]
fn every_consistency_proof_verifies_and_no_other_does() {
    for new in 1..40_u64 {
        for old in 1..=new {
            let all = leaves(new);
            let (first, second) = (naive(&all[..old as usize]), naive(&all));
            let proof: Vec<Hash> = consistency_parts(old, new).iter().map(|part| over(&all, part)).collect();
            assert!(is_consistent((old, &first), (new, &second), &proof), "{old} {new}");
            let mut other = all.clone();
            other[0] = leaf_hash(b"other");
            assert!(
                !is_consistent((old, &naive(&other[..old as usize])), (new, &second), &proof) || old == 0
            );
            if old < new {
                assert!(!is_consistent((old, &first), (new, &naive(&other)), &proof));
                for index in 0..proof.len() {
                    let mut spoiled = proof.clone();
                    spoiled[index][5] ^= 1;
                    assert!(!is_consistent((old, &first), (new, &second), &spoiled));
                    spoiled.remove(index);
                    assert!(!is_consistent((old, &first), (new, &second), &spoiled));
                }
            }
        }
    }
    assert!(is_consistent((0, &sha256(&[])), (5, &[1; 32]), &[]));
    assert!(!is_consistent((6, &[1; 32]), (5, &[1; 32]), &[]));
    assert!(!is_consistent((3, &[1; 32]), (u64::MAX, &[1; 32]), &[]));
}

#[test]
fn checkpoints_are_signed_notes() {
    let signer = signer();
    let checkpoint = Checkpoint::of(ORGANISATION, 1, &frontier(&leaves(5)));
    let signed = checkpoint.clone().sign(&signer);
    let mut lines = signed.note.lines();
    assert_eq!(lines.next(), Some("tobari/audit/09090909090909090909090909090909/1"));
    assert_eq!(lines.next(), Some("5"));
    assert_eq!(Checkpoint::open(&signed.note, signer.public()), Ok(checkpoint));
    let key: LogKey = signer.public().to_string().parse().unwrap();
    assert_eq!(&key, signer.public());
    for index in 0..signed.note.len() {
        let mut bytes = signed.note.clone().into_bytes();
        bytes[index] ^= 1;
        if let Ok(text) = String::from_utf8(bytes) {
            assert!(Checkpoint::open(&text, &key).is_err(), "byte {index}");
        }
    }
    let other = LogSigner::new(&log_name(ORGANISATION), SigningKey::import(&[8; 32]).unwrap()).unwrap();
    assert_eq!(
        Checkpoint::open(&signed.note, other.public()),
        Err(CheckpointError::Note(NoteError::NotSigned))
    );
    // One content has one text.
    for text in [
        "tobari/audit/09090909090909090909090909090909/1\n05\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "tobari/audit/09090909090909090909090909090909/0\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
        "tobari/audit/09090909090909090909090909090909/1\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\nmore\n",
        "tobari/audit/08080808080808080808080808080808/1\n5\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
    ] {
        assert!(Checkpoint::open(&signer.sign(text), &key).is_err(), "{text}");
    }
}

#[test]
fn cosignatures_say_when() {
    let witness = Witness::new("witness.example/1", SigningKey::import(&[3; 32]).unwrap()).unwrap();
    let key: WitnessKey = witness.public().to_string().parse().unwrap();
    let line = witness.cosign("text\n", 1_700_000_000);
    assert_eq!(key.seen_at("text\n", &line), Ok(1_700_000_000));
    assert_eq!(key.seen_at("test\n", &line), Err(NoteError::BadSignature));
    assert_eq!(key.seen_at("text\n", ""), Err(NoteError::NotSigned));
    assert!(witness.public().to_string().parse::<LogKey>().is_err());
}

/// The note that `docs/spec/audit.md` shows and that `tests/oracle` checks with another implementation.
#[test]
fn the_example_of_the_specification() {
    let text = include_str!("../../../docs/spec/audit.md");
    let signer = signer();
    let records = [
        r#"{"act":"start","detail":"0.1.0","time":"2026-11-21T00:00:00Z","version":1}"#,
        r#"{"act":"login","time":"2026-11-21T00:00:01Z","version":1}"#,
        r#"{"act":"logout","time":"2026-11-21T00:00:02Z","version":1}"#,
    ];
    let leaves: Vec<Hash> = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let growth = Growth::new(Frontier::default(), leaves.clone());
    let note = Checkpoint::of(ORGANISATION, 1, growth.after()).sign(&signer).note;
    for line in records.into_iter().chain(note.lines()) {
        assert!(text.contains(line), "{line}");
    }
    for hash in leaves.iter().chain(&growth.prove(1..2).unwrap()) {
        assert!(text.contains(&HEXLOWER.encode(hash)), "{}", HEXLOWER.encode(hash));
    }
    assert!(text.contains(&signer.public().to_string()), "{}", signer.public());
}

fn record(number: u64) -> String {
    format!(
        r#"{{"act":"grant","file":"{}","person":"{}","right":"view","terminal":"{}","version":1}}"#,
        FileId::from_bytes([number as u8; 16]),
        PersonId::from_bytes([1; 16]),
        TerminalId::from_bytes([2; 16]),
    )
}

fn receipt(before: u64, count: u64) -> AuditReceipt {
    let records: Vec<String> = (1..=count).map(record).collect();
    let hashes = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let growth = Growth::new(frontier(&leaves(before)), hashes);
    let proof = growth.prove(before..before + count).unwrap();
    AuditReceipt {
        checkpoint: Checkpoint::of(ORGANISATION, 1, growth.after()).sign(&signer()).note,
        first: before + 1,
        records,
        proof: proof.into_iter().map(|hash| Base64(hash.to_vec())).collect(),
    }
}

#[test]
fn a_receipt_covers_exactly_what_was_recorded() {
    let signer = signer();
    let check = |receipt: &AuditReceipt| check_receipt(Some(receipt), signer.public()).map(|_| ());
    let good = receipt(11, 3);
    let checked = check_receipt(Some(&good), signer.public()).unwrap();
    let (file, person, terminal) =
        (FileId::from_bytes([2; 16]), PersonId::from_bytes([1; 16]), TerminalId::from_bytes([2; 16]));
    let covers = |index, sequence, file, person, terminal, right| {
        let occasion = Occasion::Grant(right);
        checked.covers(index, sequence, &Released { file, person, terminal, occasion })
    };
    assert_eq!(covers(1, 13, file, person, terminal, Right::View), Ok(()));
    assert!(covers(0, 12, file, person, terminal, Right::View).is_err());
    assert!(covers(1, 12, file, person, terminal, Right::View).is_err());
    assert!(covers(1, 13, FileId::from_bytes([3; 16]), person, terminal, Right::View).is_err());
    assert!(covers(1, 13, file, PersonId::from_bytes([2; 16]), terminal, Right::View).is_err());
    assert!(covers(1, 13, file, person, TerminalId::from_bytes([3; 16]), Right::View).is_err());
    assert!(covers(1, 13, file, person, terminal, Right::Edit).is_err());
    assert!(covers(3, 15, file, person, terminal, Right::View).is_err());

    assert_eq!(check_receipt(None, signer.public()).map(|_| ()), Err(ReceiptFault::Missing));
    let spoiled: [fn(&mut AuditReceipt); 9] = [
        |receipt| receipt.first += 1,
        |receipt| receipt.first = 0,
        |receipt| receipt.records.swap(0, 1),
        |receipt| receipt.records.truncate(2),
        |receipt| receipt.records.clear(),
        |receipt| receipt.records[0] = receipt.records[0].replace("view", "edit"),
        |receipt| receipt.proof[0].0[0] ^= 1,
        |receipt| receipt.proof.truncate(0),
        |receipt| receipt.proof.push(Base64(vec![0; 32])),
    ];
    for spoil in spoiled {
        let mut bad = good.clone();
        spoil(&mut bad);
        assert_eq!(check(&bad), Err(ReceiptFault::NotIncluded));
    }
    let mut forged = good.clone();
    let other = LogSigner::new(&log_name(ORGANISATION), SigningKey::import(&[8; 32]).unwrap()).unwrap();
    forged.checkpoint = Checkpoint::open(&good.checkpoint, signer.public()).unwrap().sign(&other).note;
    assert!(matches!(check(&forged), Err(ReceiptFault::Checkpoint(_))));
}

/// An export of `records`, beginning with the record `first` of them, under a checkpoint of all.
fn export(records: &[String], first: u64) -> Vec<String> {
    let hashes: Vec<Hash> = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let size = records.len() as u64;
    let proof = inclusion_parts(first - 1..size, size)
        .iter()
        .map(|part| Base64(over(&hashes, part).to_vec()))
        .collect();
    let checkpoint = Checkpoint::of(ORGANISATION, 1, &frontier(&hashes)).sign(&signer()).note;
    let end = ExportEnd { checkpoint, count: size + 1 - first, proof };
    let head = serde_json::to_string(&ExportHead::new(first)).unwrap();
    let middle = records[first as usize - 1..].iter().cloned();
    [head].into_iter().chain(middle).chain([serde_json::to_string(&end).unwrap()]).collect()
}

fn verify(lines: &[String], witnesses: &[Checkpoint]) -> Result<Verified, ExportFault> {
    let mut verifier = Verifier::new(signer().public().clone(), witnesses.to_vec());
    for line in lines {
        verifier.line(line.as_bytes())?;
    }
    verifier.finish()
}

fn with_count(lines: &mut [String], change: i64) {
    let mut end: ExportEnd = serde_json::from_str(lines.last().unwrap()).unwrap();
    end.count = end.count.saturating_add_signed(change);
    *lines.last_mut().unwrap() = serde_json::to_string(&end).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Every single record altered, dropped, doubled, added or moved, at every position, with the end made to fit.
    #[test]
    fn every_fault_of_an_export_is_found(count in 1_u64..24, first in 1_u64..24) {
        let first = first.min(count);
        let records: Vec<String> = (1..=count).map(record).collect();
        let good = export(&records, first);
        let verified = verify(&good, &[]).unwrap();
        prop_assert_eq!((verified.first, verified.count), (first, count + 1 - first));
        for index in 1..good.len() - 1 {
            let mut bad = good.clone();
            bad[index] = bad[index].replace("view", "edit");
            prop_assert!(verify(&bad, &[]).is_err());
            let mut bad = good.clone();
            bad.remove(index);
            prop_assert!(verify(&bad, &[]).is_err());
            with_count(&mut bad, -1);
            prop_assert!(verify(&bad, &[]).is_err());
            let mut bad = good.clone();
            bad.insert(index, good[index].clone());
            prop_assert!(verify(&bad, &[]).is_err());
            with_count(&mut bad, 1);
            prop_assert!(verify(&bad, &[]).is_err());
            for other in index + 1..good.len() - 1 {
                let mut bad = good.clone();
                bad.swap(index, other);
                prop_assert!(verify(&bad, &[]).is_err());
            }
        }
        let mut bad = good.clone();
        bad.insert(good.len() - 1, record(200));
        with_count(&mut bad, 1);
        prop_assert!(verify(&bad, &[]).is_err());
        for cut in 0..good.len() {
            prop_assert!(verify(&good[..cut], &[]).is_err());
        }
        let mut bad = good.clone();
        bad.push(record(1));
        prop_assert!(verify(&bad, &[]).is_err());
    }
}

fn seen(records: &[String], size: usize, epoch: u32) -> Checkpoint {
    let hashes: Vec<Hash> = records[..size].iter().map(|record| leaf_hash(record.as_bytes())).collect();
    Checkpoint::of(ORGANISATION, epoch, &frontier(&hashes))
}

#[test]
fn a_witness_shows_a_cut_end_and_a_rewritten_log() {
    let records: Vec<String> = (1..=20).map(record).collect();
    let witnesses = [seen(&records, 5, 1), seen(&records, 12, 1), seen(&records, 20, 1)];
    assert_eq!(verify(&export(&records, 1), &witnesses).unwrap().witnessed, 3);
    // As after an older backup was put back: a whole, well-signed log, but not the one that was seen.
    let cut = export(&records[..15], 1);
    assert!(verify(&cut, &[]).is_ok());
    assert_eq!(verify(&cut, &witnesses), Err(ExportFault::Cut { size: 15, witnessed: 20 }));
    let mut rewritten = records.clone();
    rewritten[8] = record(100);
    assert_eq!(verify(&export(&rewritten, 1), &witnesses), Err(ExportFault::Rewritten(12)));
    // Without a new signature: the witnesses say where.
    let mut altered = export(&records, 1);
    altered[9] = record(100);
    assert_eq!(verify(&altered, &witnesses), Err(ExportFault::Altered { first: 6, last: 12 }));
}

#[test]
fn what_was_given_up_openly_is_told_and_no_fault() {
    let mut records: Vec<String> = (1..=10).map(record).collect();
    let witnesses = [seen(&records, 4, 1), seen(&records, 10, 1)];
    records.truncate(6);
    records.push(String::from(r#"{"act":"restore","detail":"disk lost","version":1}"#));
    records.push(record(50));
    let hashes: Vec<Hash> = records.iter().map(|record| leaf_hash(record.as_bytes())).collect();
    let mut lines = export(&records, 1);
    let mut end: ExportEnd = serde_json::from_str(lines.last().unwrap()).unwrap();
    assert!(matches!(verify(&lines, &witnesses), Err(ExportFault::Cut { .. })), "not without a new epoch");
    end.checkpoint = Checkpoint::of(ORGANISATION, 2, &frontier(&hashes)).sign(&signer()).note;
    *lines.last_mut().unwrap() = serde_json::to_string(&end).unwrap();
    let verified = verify(&lines, &witnesses).unwrap();
    assert_eq!(verified.restored, [Restored { sequence: 7, given_up_to: Some(10) }]);
    assert_eq!(verified.witnessed, 1);
}

#[test]
fn witness_files_are_notes_or_lines_of_a_system_log() {
    let signer = signer();
    let records: Vec<String> = (1..=9).map(record).collect();
    let notes: Vec<String> =
        [3, 5, 9].map(|size| seen(&records, size, 1).sign(&signer).note).into_iter().collect();
    let sizes = |text: &str| -> Vec<u64> {
        read_witnesses(text, signer.public()).unwrap().iter().map(|seen| seen.size).collect()
    };
    assert_eq!(sizes(&notes.concat()), [3, 5, 9]);
    assert_eq!(sizes(&notes.join("\n\n")), [3, 5, 9]);
    let whole = notes.concat();
    for cut in 0..notes[2].len() {
        assert_eq!(sizes(&whole[..whole.floor_char_boundary(whole.len() - 1 - cut)])[..2], [3, 5]);
    }
    let line =
        format!("Nov 21 host tobari[1]: tobari-checkpoint {}\n", serde_json::to_string(&notes[1]).unwrap());
    assert_eq!(sizes(&line), [5]);
    let forged = whole.replace("\n5\n", "\n6\n");
    assert!(read_witnesses(&forged, signer.public()).is_err());
}
