//! The table of what is expected is whole, and the published matrix is made of it.

use super::expected::{Expected, Promise, Role, Words, expected};
use super::helper::{Got, contains};
use super::{inside, is_leak, outside};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

fn read() -> Expected {
    toml::from_str(include_str!("expected.toml")).unwrap()
}

#[test]
fn every_way_is_expected_and_every_channel_is_tried() {
    assert_eq!(&read(), expected());
    let names = |ways: Vec<&'static str>| -> BTreeSet<&'static str> {
        let number = ways.len();
        let names: BTreeSet<_> = ways.into_iter().collect();
        assert_eq!(names.len(), number, "a name stands for one way");
        names
    };
    let outside = names(outside::WAYS.iter().map(|(name, _)| *name).collect());
    let inside = names(inside::WAYS.iter().map(|(name, _)| *name).collect());
    let commands = names(outside::COMMANDS.iter().map(|(name, _)| *name).collect());
    for (role, ways) in
        [(Role::Outside, &outside), (Role::Other, &outside), (Role::Inside, &inside), (Role::View, &commands)]
    {
        let channels: BTreeSet<&str> = expected().of(role).map(|(channel, _)| channel.id.as_str()).collect();
        assert_eq!(&channels, ways, "{role:?}");
    }
    assert!(outside.len() >= 25 && inside.len() >= 25, "{} {}", outside.len(), inside.len());
    let ids = names(expected().channel.iter().map(|channel| channel.id.as_str()).collect());
    assert!(!ids.is_empty());
}

#[test]
fn every_text_is_there_in_both_languages() {
    for channel in &expected().channel {
        for Words { en, ja } in [&channel.what, &channel.why] {
            assert!(!en.is_empty() && !ja.is_empty(), "{}", channel.id);
        }
        let roles: BTreeSet<Role> = channel.promise.iter().map(|promise| promise.role).collect();
        assert_eq!(roles.len(), channel.promise.len(), "{}: a role has one promise", channel.id);
    }
}

#[test]
fn plaintext_beyond_the_promise_is_a_leak_and_nothing_else_is() {
    for promise in [Promise::Refused, Promise::Ciphertext, Promise::Plaintext] {
        for got in [Got::Ciphertext, Got::Nothing, Got::NotTried] {
            assert!(!is_leak(got, promise));
        }
        assert_eq!(is_leak(Got::Plaintext, promise), promise != Promise::Plaintext);
    }
}

#[test]
fn a_canary_is_found_wherever_it_lies() {
    for bytes in ["canary", "a canary", "ccacanary", "canarycanar"] {
        assert!(contains(bytes.as_bytes(), b"canary"), "{bytes}");
    }
    for bytes in ["", "canar", "c", "anary", "canarx canar"] {
        assert!(!contains(bytes.as_bytes(), b"canary"), "{bytes}");
    }
    assert!(!contains(b"anything", b""));
}

fn matrix(japanese: bool) -> String {
    let say = |words: &Words| if japanese { words.ja.clone() } else { words.en.clone() };
    let promise = |promise: Promise| match (promise, japanese) {
        (Promise::Refused, false) => "nothing",
        (Promise::Ciphertext, false) => "ciphertext",
        (Promise::Plaintext, false) => "**plaintext**",
        (Promise::Refused, true) => "何も得られない",
        (Promise::Ciphertext, true) => "暗号文",
        (Promise::Plaintext, true) => "**平文**",
    };
    let mut text = String::from(if japanese { HEAD_JA } else { HEAD_EN });
    for role in Role::ALL {
        let heading = match (role, japanese) {
            (Role::Outside, false) => "The same user, with programs outside a session",
            (Role::Inside, false) => "A program in a session",
            (Role::Other, false) => "Another user of the host",
            (Role::View, false) => "Somebody who may view and no more",
            (Role::Outside, true) => "同じ利用者の、セッションの外のプログラム",
            (Role::Inside, true) => "セッションの中のプログラム",
            (Role::Other, true) => "ホストの別の利用者",
            (Role::View, true) => "表示だけできる人",
        };
        let _ = write!(text, "\n## {heading} (`{}`)\n\n", role.name());
        text.push_str(if japanese {
            "| 経路 | 何を試すか | 得られるのは多くて | 理由 |\n|---|---|---|---|\n"
        } else {
            "| way | what is tried | at most | because |\n|---|---|---|---|\n"
        });
        for (channel, at_most) in expected().of(role) {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                channel.id,
                say(&channel.what),
                promise(at_most),
                say(&channel.why)
            );
        }
    }
    text.push_str(if japanese { "\n## 試していないもの\n\n" } else { "\n## Not tried\n\n" });
    for one in &expected().not_tried {
        let _ = writeln!(text, "- `{}`: {}", one.id, say(&one.what));
    }
    text
}

const HEAD_EN: &str = "# What `tobari drill` tries, and what each way may bring\n\n\
    [日本語](leak-matrix.ja.md)\n\n\
    `tobari drill FOLDER` puts a canary into a protected folder and attacks it in the ways below, each first on a plain file or without a\n\
    session, where it has to succeed to count as tried. A plaintext byte where less is promised is a failure (exit 28). The list is made of\n\
    `cli/src/drill/expected.toml`, which the command has in it; a test keeps the two alike.\n";
const HEAD_JA: &str = "# `tobari drill` が試すことと、それぞれで得られるもの\n\n\
    [English](leak-matrix.md)\n\n\
    `tobari drill フォルダ` は保護フォルダにおとりを置き、下の経路で攻撃します。どの経路も先に平文のファイルかセッションの外で試し、そこで成功した\n\
    ものだけを「試した」と数えます。約束より多く、平文が 1 バイトでも得られれば失敗です (終了コード 28)。この表は命令が持つ\n\
    `cli/src/drill/expected.toml` から作られ、食い違いがないことをテストが確かめます。\n";

#[test]
fn the_leak_matrix_says_what_the_drill_expects() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let pages: [(PathBuf, String); 2] =
        [(docs.join("leak-matrix.md"), matrix(false)), (docs.join("leak-matrix.ja.md"), matrix(true))];
    for (path, text) in pages {
        if std::env::var_os("UPDATE_LEAK_MATRIX").is_some() {
            fs::write(&path, &text).unwrap();
        }
        let published = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            published == text,
            "{} is stale: UPDATE_LEAK_MATRIX=1 cargo test -p tobari-cli leak_matrix",
            path.display()
        );
    }
}
