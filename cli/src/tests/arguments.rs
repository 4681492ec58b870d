//! What command lines mean, and how wrong ones are refused.

use super::fake::Fake;
use crate::args::Args;
use crate::console::Console;
use crate::exit::Exit;
use crate::message::Language;
use clap::{CommandFactory as _, Parser as _};

#[test]
fn the_definition_is_consistent() {
    Args::command().debug_assert();
}

#[test]
fn command_lines_mean_what_they_say() {
    let lines = [
        "login",
        "login bucho --password-stdin --totp 123456",
        "status --unsealed --watch",
        "info a b --json",
        "cat --lang ja -- --odd-name",
        "unseal a -o b",
        "unseal a b --output-dir out --force",
        "unseal a --in-place",
        "seal a --label 社外秘 --owner-group 総務部/人事課",
        "zip -o out.zip a b --password-length 24",
        "scan-coverage /srv --list",
        "admin label add 秘 --level 60 --key-kind rsa2048-mlkem768",
        "admin person add bucho --name 部長 --membership 総務部:部長 --role policy --totp --password-stdin",
        "admin person set ippan --disabled true",
        "admin rule add --label 社外秘 --group 総務部/... --post rank>=60 --allow view,edit,print --zone LGWAN接続系 --tag 据置 --second-factor --not-before 2026-04-01T00:00:00+09:00 --note 年度",
        "admin rule add --label 社外秘 --deny all",
        "admin folder add /srv/共有 --label 社外秘 --exclude *.tmp --exclude ~$*",
        "admin terminal set fs01 --zone 庁内 --revoke",
        "bulletin import bulletin.json",
        "admin bulletin export",
        "admin terminal freeze fs01",
        "admin revoke file 名簿.csv --reason 誤送信",
        "admin revoke lift label 社外秘 --reason 調査終了",
        "lease request 名簿.csv --days 3 --opens 5 --rights view,print --reason 出張",
        "lease refill",
        "lease refill 1e1e /srv/共有 名簿.csv",
        "admin lease refuse 1e1e --reason 不要",
        "admin token --valid-seconds 600",
        "admin audit --after 10 --verify",
        "completions bash",
    ];
    let parsed: Vec<String> = lines
        .iter()
        .map(|line| {
            let words = std::iter::once("tobari").chain(line.split(' '));
            format!("$ tobari {line}\n{:#?}\n", Args::try_parse_from(words).unwrap().command)
        })
        .collect();
    insta::assert_snapshot!(parsed.join("\n"));
}

#[test]
fn wrong_command_lines_are_refused_with_a_hint_and_nothing_on_standard_output() {
    let fake = Fake::nobody();
    for line in [
        "frobnicate",
        "unseal a",
        "unseal a -o b --in-place",
        "unseal a b -o c",
        "zip a",
        "zip -o a.zip b --password-length 16",
        "zip -o a.zip b --password-stdin --ask-password",
        "admin rule add --label x",
        "admin rule add --label x --allow view --deny edit",
        "admin rule add --label x --allow fly",
        "admin label add x --level 1001",
        "info",
    ] {
        for language in ["en", "ja"] {
            let ran = fake.run_in(language, &line.split(' ').collect::<Vec<_>>(), b"");
            assert_eq!(ran.exit, Exit::Usage, "{line}: {ran:?}");
            assert!(ran.out.is_empty(), "{line}: {ran:?}");
            assert!(
                ran.err.contains("tobari: error: ") && ran.err.contains("tobari: hint: "),
                "{line}: {ran:?}"
            );
        }
        let words: Vec<&str> = std::iter::once("--json").chain(line.split(' ')).collect();
        let ran = fake.run(&words);
        let error: serde_json::Value = serde_json::from_str(ran.err.trim_end()).unwrap();
        assert_eq!(error["error"]["exit"], 2, "{line}");
    }
}

#[test]
fn help_and_version_are_data_and_speak_the_language() {
    let fake = Fake::nobody();
    let help = fake.run(&["--help"]);
    assert_eq!(help.exit, Exit::Ok);
    assert!(help.text().contains("scan-coverage") && help.err.is_empty());
    let help = fake.run_in("ja", &["zip", "--help"], b"");
    assert!(help.text().contains("パスワード"), "{}", help.text());
    assert_eq!(fake.run(&["--version"]).text(), format!("tobari {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_language_follows_flag_variable_and_locale_in_this_order() {
    let console = |variables: &[(&str, &str)]| {
        let file = || tempfile::tempfile().unwrap();
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), value.into())).collect();
        let clock = std::sync::Arc::new(tobari_core::clock::SystemClock);
        Console { input: file(), output: file(), errors: file(), variables, clock }
    };
    let choose =
        |typed: Option<&str>, variables: &[(&str, &str)]| Language::choose(typed, &console(variables));
    assert_eq!(choose(None, &[]), Language::En);
    assert_eq!(choose(None, &[("LANG", "ja_JP.UTF-8")]), Language::Ja);
    assert_eq!(choose(None, &[("LC_ALL", "C"), ("LANG", "ja_JP.UTF-8")]), Language::En);
    assert_eq!(choose(None, &[("LC_ALL", ""), ("LC_MESSAGES", "ja_JP"), ("LANG", "C")]), Language::Ja);
    assert_eq!(choose(None, &[("TOBARI_LANG", "ja"), ("LC_ALL", "C")]), Language::Ja);
    assert_eq!(choose(Some("en"), &[("TOBARI_LANG", "ja")]), Language::En);
    assert_eq!(choose(None, &[("LANG", "fr_FR.UTF-8")]), Language::En);
}

#[test]
fn completions_are_made_for_each_shell() {
    let fake = Fake::nobody();
    for shell in ["bash", "zsh", "fish"] {
        let ran = fake.run(&["completions", shell]);
        assert_eq!(ran.exit, Exit::Ok);
        assert!(ran.text().contains("scan-coverage"), "{shell}");
    }
}
