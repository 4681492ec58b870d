//! The administration's routes. Every collection has the same five; the macro writes them once.

use super::call::{Asked, Id, Input, Output};
use crate::audit::Act;
use crate::service::admin::{AuditFilter, AuditVerification, Part};
use crate::service::{Call, Service, ServiceError};
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use std::sync::Arc;
use tobari_core::ids::{ChangeRequestId, PersonId, TerminalId};
use tobari_core::policy::{Group, Invariant, Post, Rule};
use tobari_core::proto::admin::{
    AuditMatches, AuditPage, AuditProof, EnrolmentToken, EnrolmentTokenInput, FolderInput, GroupInput,
    LabelInput, LabelRecord, PersonInput, PersonRecord, PostInput, PresetApplied, RevocationInput,
    RevocationRecord, RuleInput, TerminalInput, TerminalRecord,
};
use tobari_core::proto::bulletin::Folder;
use tobari_core::proto::policy::{
    ChangeInput, ChangeRequest, ExplainRequest, Explanation, InvariantInput, PolicyAt, PolicyDiff,
    PolicyStatus, PolicyVersion, ReasonInput, RetireInput, StepUpRequest, SteppedUp,
};
use tobari_core::proto::problem::Problem;

type App = State<Arc<Service>>;

/// Which people, in the order of their ids.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeopleQuery {
    /// Who has this login name, in the form in which login names are compared: one person, or nobody.
    #[serde(default)]
    login: Option<String>,
    /// Only people whose ids come after this one.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<PersonId>,
    /// At most so many, up to 1000; all when absent.
    #[serde(default)]
    limit: Option<u32>,
}

impl From<PeopleQuery> for Part<PersonId> {
    fn from(query: PeopleQuery) -> Self {
        let PeopleQuery { login: named, after, limit } = query;
        Self { named, after, limit }
    }
}

/// Which terminals, in the order of their ids.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct TerminalsQuery {
    /// Those that have exactly this name.
    #[serde(default)]
    name: Option<String>,
    /// Only terminals whose ids come after this one.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<TerminalId>,
    /// At most so many, up to 1000; all when absent.
    #[serde(default)]
    limit: Option<u32>,
}

impl From<TerminalsQuery> for Part<TerminalId> {
    fn from(query: TerminalsQuery) -> Self {
        let TerminalsQuery { name: named, after, limit } = query;
        Self { named, after, limit }
    }
}

/// Reading, replacing and deleting, which every collection has.
macro_rules! objects {
    ($module:ident, $path:literal, $one:literal, $id:ty, $input:ty, $output:ty,
     $list:ident $(by $query:ident)?, $find:ident, $replace:ident, $delete:ident) => {
        pub(super) mod $module {
            use super::*;

            /// All of them, or those that are asked for.
            #[utoipa::path(get, path = $path, operation_id = stringify!($list), tag = "administration", $(params($query),)?
                responses((status = 200, body = Vec<$output>), (status = "default", body = Problem, content_type = "application/problem+json")))]
            pub(in crate::http) async fn list(
                State(service): App,
                call: Call,
                $(Asked(query): Asked<$query>,)?
            ) -> Result<Output<Vec<$output>>, ServiceError> {
                Ok(Output(service.$list(&call $(, <$query as Into<Part<$id>>>::into(query))?).await?))
            }

            /// One of them.
            #[utoipa::path(get, path = $one, operation_id = stringify!($find), tag = "administration",
                params(("id" = String, Path)),
                responses((status = 200, body = $output), (status = "default", body = Problem, content_type = "application/problem+json")))]
            pub(in crate::http) async fn find(
                State(service): App,
                call: Call,
                Id(id): Id<$id>,
            ) -> Result<Output<$output>, ServiceError> {
                Ok(Output(service.$find(&call, id).await?))
            }

            /// Replaces one.
            #[utoipa::path(put, path = $one, operation_id = stringify!($replace), tag = "administration",
                params(("id" = String, Path)), request_body = $input,
                responses((status = 200, body = $output), (status = "default", body = Problem, content_type = "application/problem+json")))]
            pub(in crate::http) async fn replace(
                State(service): App,
                call: Call,
                Id(id): Id<$id>,
                Input(input): Input<$input>,
            ) -> Result<Output<$output>, ServiceError> {
                Ok(Output(service.$replace(&call, id, input).await?))
            }

            /// Deletes one.
            #[utoipa::path(delete, path = $one, operation_id = stringify!($delete), tag = "administration",
                params(("id" = String, Path)),
                responses((status = 204), (status = "default", body = Problem, content_type = "application/problem+json")))]
            pub(in crate::http) async fn delete(
                State(service): App,
                call: Call,
                Id(id): Id<$id>,
            ) -> Result<StatusCode, ServiceError> {
                service.$delete(&call, id).await?;
                Ok(StatusCode::NO_CONTENT)
            }
        }
    };
}

/// Creating, which all but terminals have.
macro_rules! creation {
    ($name:ident, $path:literal, $input:ty, $output:ty) => {
        /// Creates one.
        #[utoipa::path(post, path = $path, tag = "administration", request_body = $input,
            responses((status = 201, body = $output), (status = "default", body = Problem, content_type = "application/problem+json")))]
        pub(super) async fn $name(
            State(service): App,
            call: Call,
            Input(input): Input<$input>,
        ) -> Result<(StatusCode, Output<$output>), ServiceError> {
            Ok((StatusCode::CREATED, Output(service.$name(&call, input).await?)))
        }
    };
}

objects!(
    labels,
    "/v1/admin/labels",
    "/v1/admin/labels/{id}",
    tobari_core::ids::LabelId,
    LabelInput,
    LabelRecord,
    labels,
    label,
    replace_label,
    delete_label
);
objects!(
    groups,
    "/v1/admin/groups",
    "/v1/admin/groups/{id}",
    tobari_core::ids::GroupId,
    GroupInput,
    Group,
    groups,
    group,
    replace_group,
    delete_group
);
objects!(
    posts,
    "/v1/admin/posts",
    "/v1/admin/posts/{id}",
    tobari_core::ids::PostId,
    PostInput,
    Post,
    posts,
    post,
    replace_post,
    delete_post
);
objects!(
    people,
    "/v1/admin/people",
    "/v1/admin/people/{id}",
    tobari_core::ids::PersonId,
    PersonInput,
    PersonRecord,
    people by PeopleQuery,
    person,
    replace_person,
    delete_person
);
objects!(
    rules,
    "/v1/admin/rules",
    "/v1/admin/rules/{id}",
    tobari_core::ids::RuleId,
    RuleInput,
    Rule,
    rules,
    rule,
    replace_rule,
    delete_rule
);
objects!(
    folders,
    "/v1/admin/folders",
    "/v1/admin/folders/{id}",
    tobari_core::ids::FolderId,
    FolderInput,
    Folder,
    folders,
    folder,
    replace_folder,
    delete_folder
);
objects!(
    terminals,
    "/v1/admin/terminals",
    "/v1/admin/terminals/{id}",
    tobari_core::ids::TerminalId,
    TerminalInput,
    TerminalRecord,
    terminals by TerminalsQuery,
    one_terminal,
    replace_terminal,
    delete_terminal
);
objects!(
    invariants,
    "/v1/admin/invariants",
    "/v1/admin/invariants/{id}",
    tobari_core::ids::InvariantId,
    InvariantInput,
    Invariant,
    invariants,
    invariant,
    replace_invariant,
    delete_invariant
);
creation!(create_label, "/v1/admin/labels", LabelInput, LabelRecord);

/// Makes a label's next key.
#[utoipa::path(post, path = "/v1/admin/labels/{id}/rotate", tag = "administration",
    params(("id" = String, Path)),
    responses((status = 200, body = LabelRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn rotate_label(
    State(service): App,
    call: Call,
    Id(id): Id<tobari_core::ids::LabelId>,
) -> Result<Output<LabelRecord>, ServiceError> {
    Ok(Output(service.rotate_label(&call, id).await?))
}

/// Takes the private half of an earlier key of a label away, for good.
#[utoipa::path(post, path = "/v1/admin/labels/{id}/retire", tag = "administration",
    params(("id" = String, Path)), request_body = RetireInput,
    responses((status = 200, body = LabelRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn retire_label_key(
    State(service): App,
    call: Call,
    Id(id): Id<tobari_core::ids::LabelId>,
    Input(input): Input<RetireInput>,
) -> Result<Output<LabelRecord>, ServiceError> {
    Ok(Output(service.retire_label_key(&call, id, input).await?))
}

/// Shuts a terminal out until it is let in again; its sessions stay.
#[utoipa::path(post, path = "/v1/admin/terminals/{id}/freeze", tag = "administration",
    params(("id" = String, Path)),
    responses((status = 200, body = TerminalRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn freeze_terminal(
    State(service): App,
    call: Call,
    Id(id): Id<tobari_core::ids::TerminalId>,
) -> Result<Output<TerminalRecord>, ServiceError> {
    Ok(Output(service.freeze_terminal(&call, id, true).await?))
}

/// Lets a terminal in again.
#[utoipa::path(post, path = "/v1/admin/terminals/{id}/unfreeze", tag = "administration",
    params(("id" = String, Path)),
    responses((status = 200, body = TerminalRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn unfreeze_terminal(
    State(service): App,
    call: Call,
    Id(id): Id<tobari_core::ids::TerminalId>,
) -> Result<Output<TerminalRecord>, ServiceError> {
    Ok(Output(service.freeze_terminal(&call, id, false).await?))
}

creation!(create_group, "/v1/admin/groups", GroupInput, Group);
creation!(create_post, "/v1/admin/posts", PostInput, Post);
creation!(create_person, "/v1/admin/people", PersonInput, PersonRecord);
creation!(create_rule, "/v1/admin/rules", RuleInput, Rule);
creation!(create_invariant, "/v1/admin/invariants", InvariantInput, Invariant);
creation!(create_request, "/v1/admin/requests", ChangeInput, ChangeRequest);
creation!(create_folder, "/v1/admin/folders", FolderInput, Folder);
creation!(create_enrolment_token, "/v1/admin/enrolment-tokens", EnrolmentTokenInput, EnrolmentToken);

/// Labels and files that are revoked.
#[utoipa::path(get, path = "/v1/admin/revocations", tag = "administration",
    responses((status = 200, body = Vec<RevocationRecord>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn revocations(
    State(service): App,
    call: Call,
) -> Result<Output<Vec<RevocationRecord>>, ServiceError> {
    Ok(Output(service.revocations(&call).await?))
}

creation!(revoke, "/v1/admin/revocations", RevocationInput, RevocationRecord);

/// Lifts a revocation.
#[utoipa::path(post, path = "/v1/admin/revocations/lift", tag = "administration", request_body = RevocationInput,
    responses((status = 200, body = RevocationRecord), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn lift_revocation(
    State(service): App,
    call: Call,
    Input(input): Input<RevocationInput>,
) -> Result<Output<RevocationRecord>, ServiceError> {
    Ok(Output(service.lift_revocation(&call, input).await?))
}

/// Adds the labels, posts and rules of a preset.
#[utoipa::path(post, path = "/v1/admin/presets/{name}", tag = "administration", params(("name" = String, Path)),
    responses((status = 201, body = PresetApplied), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply_preset(
    State(service): App,
    call: Call,
    Id(name): Id<String>,
) -> Result<(StatusCode, Output<PresetApplied>), ServiceError> {
    Ok((StatusCode::CREATED, Output(service.apply_preset(&call, &name).await?)))
}

/// What a person may do, and by which rules.
#[utoipa::path(post, path = "/v1/admin/explain", tag = "policy", request_body = ExplainRequest, 
    responses((status = 200, body = Explanation), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn explain(
    State(service): App,
    call: Call,
    Input(input): Input<ExplainRequest>,
) -> Result<Output<Explanation>, ServiceError> {
    Ok(Output(service.explain(&call, input).await?))
}

/// What a change would give and take; changes nothing.
#[utoipa::path(post, path = "/v1/admin/policy/diff", tag = "policy", request_body = ChangeInput, 
    responses((status = 200, body = PolicyDiff), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn policy_diff(
    State(service): App,
    call: Call,
    Input(input): Input<ChangeInput>,
) -> Result<Output<PolicyDiff>, ServiceError> {
    Ok(Output(service.policy_diff(&call, input).await?))
}

/// Makes a change, with its reason.
#[utoipa::path(post, path = "/v1/admin/policy/changes", tag = "policy", request_body = ChangeInput, 
    responses((status = 200, body = Object), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn make_change(
    State(service): App,
    call: Call,
    Input(input): Input<ChangeInput>,
) -> Result<Output<serde_json::Value>, ServiceError> {
    Ok(Output(service.make_change(&call, input).await?))
}

/// Shows a fresh code.
#[utoipa::path(post, path = "/v1/admin/step-up", tag = "policy", request_body = StepUpRequest, 
    responses((status = 200, body = SteppedUp), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn step_up(
    State(service): App,
    call: Call,
    Input(input): Input<StepUpRequest>,
) -> Result<Output<SteppedUp>, ServiceError> {
    Ok(Output(service.step_up(&call, input).await?))
}

/// Approves a request.
#[utoipa::path(post, path = "/v1/admin/requests/{id}/approve", tag = "policy", params(("id" = String, Path)), request_body = ReasonInput, 
    responses((status = 200, body = ChangeRequest), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn approve_request(
    State(service): App,
    call: Call,
    Id(id): Id<ChangeRequestId>,
    Input(input): Input<ReasonInput>,
) -> Result<Output<ChangeRequest>, ServiceError> {
    Ok(Output(service.approve_request(&call, id, input).await?))
}

/// Refuses a request, or takes it back.
#[utoipa::path(post, path = "/v1/admin/requests/{id}/refuse", tag = "policy", params(("id" = String, Path)), request_body = ReasonInput, 
    responses((status = 200, body = ChangeRequest), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn refuse_request(
    State(service): App,
    call: Call,
    Id(id): Id<ChangeRequestId>,
    Input(input): Input<ReasonInput>,
) -> Result<Output<ChangeRequest>, ServiceError> {
    Ok(Output(service.refuse_request(&call, id, input).await?))
}

/// Applies a request that was approved.
#[utoipa::path(post, path = "/v1/admin/requests/{id}/apply", tag = "policy", params(("id" = String, Path)), 
    responses((status = 200, body = Object), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn apply_request(
    State(service): App,
    call: Call,
    Id(id): Id<ChangeRequestId>,
) -> Result<Output<serde_json::Value>, ServiceError> {
    Ok(Output(service.apply_request(&call, id).await?))
}

/// The version of the policy, and whether a second person is needed.
#[utoipa::path(get, path = "/v1/admin/policy", tag = "policy", 
    responses((status = 200, body = PolicyStatus), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn policy_status(
    State(service): App,
    call: Call,
) -> Result<Output<PolicyStatus>, ServiceError> {
    Ok(Output(service.policy_status(&call).await?))
}

/// A version of the policy.
#[utoipa::path(get, path = "/v1/admin/policy/versions/{id}", tag = "policy", params(("id" = String, Path)), 
    responses((status = 200, body = PolicyAt), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn policy_at(
    State(service): App,
    call: Call,
    Id(id): Id<u64>,
) -> Result<Output<PolicyAt>, ServiceError> {
    Ok(Output(service.policy_at(&call, id).await?))
}

/// Which requests: all in the order of their times, or a part in the order of their ids.
#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RequestsQuery {
    /// Only requests whose ids come after this one.
    #[serde(default)]
    #[param(value_type = Option<String>)]
    after: Option<ChangeRequestId>,
    /// At most so many, up to 1000; all when absent.
    #[serde(default)]
    limit: Option<u32>,
}

/// Changes that wait for a second person, and those that are over.
#[utoipa::path(get, path = "/v1/admin/requests", tag = "policy", params(RequestsQuery),
    responses((status = 200, body = Vec<ChangeRequest>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn change_requests(
    State(service): App,
    call: Call,
    Asked(query): Asked<RequestsQuery>,
) -> Result<Output<Vec<ChangeRequest>>, ServiceError> {
    let part = Part { named: None, after: query.after, limit: query.limit };
    Ok(Output(service.change_requests(&call, part).await?))
}

/// One of them.
#[utoipa::path(get, path = "/v1/admin/requests/{id}", tag = "policy", params(("id" = String, Path)), 
    responses((status = 200, body = ChangeRequest), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn change_request(
    State(service): App,
    call: Call,
    Id(id): Id<ChangeRequestId>,
) -> Result<Output<ChangeRequest>, ServiceError> {
    Ok(Output(service.change_request(&call, id).await?))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct VersionsQuery {
    /// Only versions before this one.
    #[serde(default)]
    before: Option<u64>,
    /// At most so many, up to 200.
    #[serde(default = "default_limit")]
    limit: u32,
}

/// Who changed the policy, when and why; the newest first.
#[utoipa::path(get, path = "/v1/admin/policy/versions", tag = "policy", params(VersionsQuery),
    responses((status = 200, body = Vec<PolicyVersion>), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn policy_versions(
    State(service): App,
    call: Call,
    Asked(query): Asked<VersionsQuery>,
) -> Result<Output<Vec<PolicyVersion>>, ServiceError> {
    Ok(Output(service.policy_versions(&call, query.before, query.limit).await?))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Records after this sequence number; 0 begins at the first.
    #[serde(default)]
    after: u64,
    /// At most so many, up to 1000.
    #[serde(default = "default_limit")]
    limit: u32,
}

fn default_limit() -> u32 {
    100
}

/// A page of the audit log.
#[utoipa::path(get, path = "/v1/admin/audit", tag = "audit", params(PageQuery),
    responses((status = 200, body = AuditPage), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn audit(
    State(service): App,
    call: Call,
    Asked(query): Asked<PageQuery>,
) -> Result<Output<AuditPage>, ServiceError> {
    Ok(Output(service.audit_page(&call, query.after, query.limit).await?))
}

/// Checks the whole chain of the audit log.
#[utoipa::path(get, path = "/v1/admin/audit/verify", tag = "audit",
    responses((status = 200, body = AuditVerification), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn verify_audit(
    State(service): App,
    call: Call,
) -> Result<Output<AuditVerification>, ServiceError> {
    Ok(Output(service.audit_verify(&call).await?))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct SearchQuery {
    /// Records after this sequence number.
    #[serde(default)]
    after: u64,
    /// At most so many, up to 1000.
    #[serde(default = "default_limit")]
    limit: u32,
    /// The kind of act.
    #[param(value_type = Option<String>)]
    act: Option<Act>,
    /// Who acted, or was the object of an administrative act.
    #[param(value_type = Option<String>)]
    person: Option<tobari_core::ids::PersonId>,
    /// The file.
    #[param(value_type = Option<String>)]
    file: Option<tobari_core::ids::FileId>,
    /// The label.
    #[param(value_type = Option<String>)]
    label: Option<tobari_core::ids::LabelId>,
    /// The terminal.
    #[param(value_type = Option<String>)]
    terminal: Option<tobari_core::ids::TerminalId>,
    /// Not before this time.
    #[param(value_type = Option<String>)]
    since: Option<jiff::Timestamp>,
    /// Before this time.
    #[param(value_type = Option<String>)]
    until: Option<jiff::Timestamp>,
}

/// Records of the audit log that match everything that is given. Looks at 50,000 records at most: go on after
/// `searched_to` until `end`.
#[utoipa::path(get, path = "/v1/admin/audit/search", tag = "audit", params(SearchQuery),
    responses((status = 200, body = AuditMatches), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn search_audit(
    State(service): App,
    call: Call,
    Asked(query): Asked<SearchQuery>,
) -> Result<Output<AuditMatches>, ServiceError> {
    let SearchQuery { after, limit, act, person, file, label, terminal, since, until } = query;
    let filter = AuditFilter { act, person, file, label, terminal, since, until };
    Ok(Output(service.audit_search(&call, &filter, after, limit).await?))
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CheckpointQuery {
    /// First record to be proved.
    #[serde(default = "default_first")]
    first: u64,
    /// Last record to be proved; the last of the log when absent.
    last: Option<u64>,
}

fn default_first() -> u64 {
    1
}

/// The log as it is now, signed, and the proof that some of its records are in it.
#[utoipa::path(get, path = "/v1/admin/audit/checkpoint", tag = "audit", params(CheckpointQuery),
    responses((status = 200, body = AuditProof), (status = "default", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn audit_checkpoint(
    State(service): App,
    call: Call,
    Asked(query): Asked<CheckpointQuery>,
) -> Result<Output<AuditProof>, ServiceError> {
    Ok(Output(service.audit_checkpoint(&call, query.first, query.last).await?))
}
