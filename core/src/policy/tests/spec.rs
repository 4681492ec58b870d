//! The worked example of `docs/spec/policy.md`, read from the document itself.

use super::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    labels: Vec<Label>,
    groups: Vec<Group>,
    posts: Vec<Post>,
    rules: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Question {
    memberships: Vec<Membership>,
    label: LabelId,
    owner_group: Option<GroupId>,
    now: Timestamp,
    zone: Option<String>,
    terminal_tags: Vec<String>,
    second_factor: bool,
    #[serde(default)]
    protection: Protection,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    rights: Rights,
    reasons: Vec<Reason>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Reason {
    rule: RuleId,
    effect: Effect,
    rights: Rights,
    membership: Membership,
}

impl From<Decision> for Answer {
    fn from(decision: Decision) -> Self {
        let reason = |reason: &DecidingRule| Reason {
            rule: reason.rule,
            effect: reason.effect,
            rights: reason.rights,
            membership: reason.membership,
        };
        Self { rights: decision.rights, reasons: decision.reasons.iter().map(reason).collect() }
    }
}

/// The JSON block after `<!-- example: NAME -->`.
fn block<'a>(text: &'a str, name: &str) -> &'a str {
    let (_, after) = text.split_once(&format!("<!-- example: {name} -->\n\n```json\n")).unwrap();
    after.split_once("\n```").unwrap().0
}

#[test]
fn the_worked_example_is_true() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/spec/policy.md");
    let text = std::fs::read_to_string(path).unwrap();
    let policy: Policy = serde_json::from_str(block(&text, "policy")).unwrap();
    let set = PolicySet::new(policy.labels, policy.groups, policy.posts, policy.rules).unwrap();
    for example in ["online", "internet"] {
        let question: Question = serde_json::from_str(block(&text, &format!("{example} question"))).unwrap();
        let expected: Answer = serde_json::from_str(block(&text, &format!("{example} decision"))).unwrap();
        let requester =
            Requester { person: PersonId::from_bytes([0; 16]), memberships: question.memberships };
        let subject = Subject { label: question.label, owner_group: question.owner_group };
        let context = Context {
            now: question.now,
            zone: question.zone,
            terminal_tags: question.terminal_tags,
            second_factor: question.second_factor,
            protection: question.protection,
        };
        assert_eq!(Answer::from(set.decide(&requester, &subject, &context)), expected, "{example}");
    }
}
