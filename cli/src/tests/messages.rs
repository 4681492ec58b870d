//! Both languages say the same things, and everything has its words.

use crate::args::Args;
use crate::error::{Error, problem_name};
use crate::exit::Exit;
use crate::message::{Language, localise};
use clap::CommandFactory as _;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use tobari_core::proto::control::UnsealedReason;
use tobari_core::proto::problem::{Problem, ProblemCode};

/// Every problem code. The match makes a new code fail to compile until it is listed.
pub(super) fn problem_codes() -> Vec<ProblemCode> {
    use ProblemCode as P;
    let all = [
        P::InvalidRequest,
        P::UnreadableEnvelope,
        P::BadCredentials,
        P::NotLoggedIn,
        P::TerminalNotAccepted,
        P::TerminalFrozen,
        P::BadEnrolmentToken,
        P::NotAdministrator,
        P::NotGateway,
        P::SecondPersonNeeded,
        P::StepUpNeeded,
        P::InvariantBroken,
        P::RightRefused,
        P::Revoked,
        P::KeyRetired,
        P::NotFound,
        P::Conflict,
        P::TooLarge,
        P::LockedOut,
        P::TooManyRequests,
        P::Internal,
        P::AuditUnavailable,
        P::StoreUnavailable,
        P::KeyServerUnreachable,
        P::CertificateExpired,
        P::NotConfigured,
        P::CorruptEnvelope,
        P::LocalIo,
        P::LeaseRefused,
        P::OutcomeUnknown,
    ];
    match P::Internal {
        P::InvalidRequest
        | P::UnreadableEnvelope
        | P::BadCredentials
        | P::NotLoggedIn
        | P::TerminalNotAccepted
        | P::TerminalFrozen
        | P::BadEnrolmentToken
        | P::NotAdministrator
        | P::NotGateway
        | P::SecondPersonNeeded
        | P::StepUpNeeded
        | P::InvariantBroken
        | P::RightRefused
        | P::Revoked
        | P::KeyRetired
        | P::NotFound
        | P::Conflict
        | P::TooLarge
        | P::LockedOut
        | P::TooManyRequests
        | P::Internal
        | P::AuditUnavailable
        | P::StoreUnavailable
        | P::KeyServerUnreachable
        | P::CertificateExpired
        | P::NotConfigured
        | P::CorruptEnvelope
        | P::LocalIo
        | P::LeaseRefused
        | P::OutcomeUnknown => {}
    }
    all.into()
}

/// Messages of a language: id and the names of its arguments.
fn messages(language: &str) -> BTreeMap<String, BTreeSet<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("locales").join(language).join("main.ftl");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let (id, text) = line.split_once(" = ")?;
            let arguments = text.split("{ $").skip(1).filter_map(|rest| rest.split(" }").next());
            Some((id.to_owned(), arguments.map(str::to_owned).collect()))
        })
        .collect()
}

#[test]
fn both_languages_have_the_same_messages_with_the_same_arguments() {
    let (english, japanese) = (messages("en"), messages("ja"));
    assert!(english.len() > 150);
    assert_eq!(english, japanese);
}

#[test]
fn every_problem_has_a_text_and_a_hint_in_both_languages() {
    for language in Language::ALL {
        for code in problem_codes() {
            let name = problem_name(code);
            let error = Error::from(Problem::local(code, "the detail"));
            assert_ne!(error.message(language), format!("error-{name}"), "{language:?}");
            assert_ne!(error.hint(language), format!("hint-{name}"), "{language:?}");
            assert!(!error.message(language).contains("{$"), "an argument is missing: {error:?}");
            assert!(!error.hint(language).contains("{$"), "an argument is missing: {error:?}");
        }
    }
}

#[test]
fn every_error_of_the_program_has_a_text_and_a_hint_in_both_languages() {
    for language in ["en", "ja"] {
        let messages = messages(language);
        for code in Error::own_codes() {
            assert!(messages.contains_key(&format!("error-{code}")), "{language} error-{code}");
            assert!(messages.contains_key(&format!("hint-{code}")), "{language} hint-{code}");
        }
    }
}

#[test]
fn every_reason_for_a_file_left_unsealed_has_its_words() {
    use UnsealedReason as U;
    let all = [
        U::InUse,
        U::HardLinked,
        U::Immutable,
        U::NoSpace,
        U::Unreadable,
        U::Changed,
        U::OtherFileSystem,
        U::ForeignEnvelope,
        U::ReadBackFailed,
        U::NoKey,
        U::System,
    ];
    let messages = messages("en");
    for reason in all {
        let code = serde_json::to_value(reason).unwrap();
        assert!(messages.contains_key(&format!("unsealed-{}", code.as_str().unwrap())), "{code}");
    }
}

/// Every literal in the sources that looks like the id of a message is one: a typing mistake would show the id.
#[test]
fn every_message_that_the_sources_name_exists() {
    const KINDS: [&str; 17] = [
        "cause-",
        "prompt-",
        "whoami-",
        "status-",
        "info-",
        "reason-",
        "warning-",
        "coverage-",
        "column-",
        "zip-",
        "logged-",
        "already-",
        "otpauth-",
        "token-made",
        "preset-applied",
        "audit-verified",
        "unsealed-",
    ];
    let messages = messages("en");
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    let mut missing = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("tests") {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                for literal in text.split('"').skip(1).step_by(2) {
                    let is_id =
                        literal.chars().all(|one| one.is_ascii_lowercase() || "-0123456789".contains(one));
                    let of_kind = KINDS.iter().any(|kind| literal.starts_with(kind) && literal != *kind);
                    if is_id && of_kind && !messages.contains_key(literal) {
                        missing.push(format!("{}: {literal}", path.display()));
                    }
                }
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_column_has_a_heading() {
    let messages = messages("en");
    for columns in ["name", "level", "path", "label", "owner-group", "seen", "person-name", "title"] {
        assert!(messages.contains_key(&format!("column-{columns}")));
    }
}

#[test]
fn exit_codes_are_unique_and_every_problem_has_one() {
    let codes: HashSet<u8> = Exit::ALL.iter().map(|exit| exit.code()).collect();
    let names: HashSet<&str> = Exit::ALL.iter().map(|exit| exit.name()).collect();
    assert_eq!((codes.len(), names.len()), (Exit::ALL.len(), Exit::ALL.len()));
    for code in problem_codes() {
        assert_ne!(Exit::from(code), Exit::Ok, "{code:?}");
    }
}

#[test]
fn the_help_of_every_command_and_flag_is_there_in_japanese() {
    fn check(command: &clap::Command, path: &str, missing: &mut Vec<String>) {
        let japanese =
            |text: Option<&clap::builder::StyledStr>| text.is_some_and(|text| !text.to_string().is_ascii());
        if !japanese(command.get_about()) {
            missing.push(path.to_owned());
        }
        for argument in command.get_arguments() {
            if !japanese(argument.get_help()) {
                missing.push(format!("{path}--{}", argument.get_id().as_str().replace('_', "-")));
            }
        }
        for below in command.get_subcommands() {
            check(below, &format!("{path}-{}", below.get_name()), missing);
        }
    }
    let mut missing = Vec::new();
    check(&localise(Args::command(), Language::Ja), "help", &mut missing);
    assert!(missing.is_empty(), "{missing:#?}");
}
