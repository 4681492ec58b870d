//! Which requests pass from a local user to the key server in that user's session. Everything under `/v1/` that has no
//! request of its own on the control socket: sessions, grants and enrolment have one path each, through the daemon's
//! own code. A path that could be read in two ways is refused, not cleaned.

use crate::failure::Failure;
use reqwest::Method;
use tobari_core::proto::problem::ProblemCode;

/// First parts of paths that do not pass.
const OWN_REQUESTS: [&str; 4] = ["changes", "grants", "sessions", "terminals"];

/// Checks method and path.
///
/// # Errors
/// `InvalidRequest`, naming what is wrong.
pub fn check(method: &str, path: &str) -> Result<Method, Failure> {
    let method = match method {
        "GET" => Method::GET,
        "POST" => Method::POST,
        "PUT" => Method::PUT,
        "DELETE" => Method::DELETE,
        _ => return Err(refused(format!("the method '{method}' is not forwarded"))),
    };
    let ambiguous = |c: char| !c.is_ascii_graphic() || matches!(c, '\\' | '#' | '"' | '<' | '>');
    if path.contains(ambiguous) {
        return Err(refused(String::from("the path has characters that do not belong into a path")));
    }
    let bare = path.split_once('?').map_or(path, |(bare, _query)| bare);
    let Some(rest) = bare.strip_prefix("/v1/") else {
        return Err(refused(format!("the path '{path}' does not begin with /v1/")));
    };
    if rest.split('/').any(|part| part.is_empty() || is_dots(part)) {
        return Err(refused(format!("the path '{path}' has an empty or a dot component")));
    }
    let first = rest.split('/').next().unwrap_or_default();
    let plain =
        first.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
    if !plain || OWN_REQUESTS.contains(&first) {
        return Err(refused(format!("'/v1/{first}' is not forwarded")));
    }
    Ok(method)
}

/// `.` or `..`, also in the percent-encoding that URL parsers see through.
fn is_dots(part: &str) -> bool {
    matches!(part.to_ascii_lowercase().replace("%2e", ".").as_str(), "." | "..")
}

fn refused(detail: String) -> Failure {
    let mut failure = Failure::new(ProblemCode::InvalidRequest, detail);
    failure.problem.field = Some(String::from("path"));
    failure
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn administration_passes() {
        for (method, path) in [
            ("GET", "/v1/admin/labels"),
            ("POST", "/v1/admin/presets/jichitai"),
            ("PUT", "/v1/admin/people/00112233445566778899aabbccddeeff"),
            ("DELETE", "/v1/admin/rules/x"),
            ("GET", "/v1/admin/audit?after=1&limit=2"),
            ("POST", "/v1/decisions"),
            ("GET", "/v1/admin/x%2Fy"),
        ] {
            assert_eq!(check(method, path).unwrap().as_str(), method);
        }
    }

    #[test]
    fn other_paths_and_methods_do_not() {
        for (method, path) in [
            ("PATCH", "/v1/admin/labels"),
            ("get", "/v1/admin/labels"),
            ("GET", "/metrics"),
            ("GET", "/v1"),
            ("GET", "//evil.example/v1/x"),
            ("GET", "https://evil.example/v1/x"),
            ("POST", "/v1/grants"),
            ("POST", "/v1/grants?x"),
            ("POST", "/v1/grants/"),
            ("POST", "/v1//grants"),
            ("POST", "/v1/admin/../grants"),
            ("POST", "/v1/admin/%2E%2e/grants"),
            ("POST", "/v1/admin/.%2e/grants"),
            ("POST", "/v1/./grants"),
            ("POST", "/v1/gr%61nts"),
            ("POST", "/v1/gr\tants"),
            ("POST", "/v1/admin\\..\\grants"),
            ("POST", "/v1/sessions"),
            ("GET", "/v1/changes?after=0"),
            ("POST", "/v1/terminals/enrol"),
            ("GET", "/v1/admin/x#y"),
            ("GET", "/v1/admin/x\r\nHost: y"),
            ("GET", "/v1/admin/帳"),
        ] {
            assert!(check(method, path).is_err(), "{method} {path}");
        }
    }
}
