//! A key server that is slow, and one that nobody hears of again.

use super::fake::{Fake, done};
use crate::client::Client;
use crate::exit::Exit;
use serde_json::json;
use std::sync::mpsc;
use tobari_core::proto::control::Answer;

#[test]
fn somebody_is_told_while_there_is_no_answer_and_once_it_is_there() {
    let (told, was_told) = mpsc::channel();
    // The answer comes when it was told twice that there is none: that is how slow this one is.
    let fake = Fake::saying(move |_, _| {
        for _ in 0..2 {
            was_told.recv().unwrap();
        }
        Some(done(Answer::Forwarded { status: 200, body: json!("made") }))
    });
    let mut client = Client::connect(&fake.socket()).unwrap();
    let (ended, has_ended) = mpsc::channel();
    client.tell(Box::new(move |waited| match waited {
        Some(waited) => told.send(waited).unwrap_or(()),
        None => ended.send(()).unwrap(),
    }));
    assert_eq!(client.forward("POST", "/v1/admin/groups", Some(json!({}))).unwrap(), json!("made"));
    has_ended.recv().unwrap();
}

#[test]
fn a_change_is_unknown_and_a_question_unanswered_when_the_daemon_goes_away() {
    for (line, exit) in [
        ("admin post add 係長 --rank 30", Exit::OutcomeUnknown),
        ("admin post list", Exit::DaemonUnreachable),
        ("admin policy diff -- post add 係長 --rank 30", Exit::DaemonUnreachable),
    ] {
        // The thread of the daemon ends and takes the connection along.
        let fake = Fake::saying(|_, _| panic!("the daemon goes away"));
        let words: Vec<&str> = line.split(' ').collect();
        for (language, told) in [("en", "not known whether the change was made"), ("ja", "分かりません")]
        {
            let fake = if language == "en" { &fake } else { &Fake::saying(|_, _| panic!("gone")) };
            let ran = fake.run_in(language, &words, b"");
            assert_eq!(ran.exit, exit, "{line}: {}", ran.err);
            assert_eq!(ran.err.contains(told), exit == Exit::OutcomeUnknown, "{}", ran.err);
        }
    }
}
