//! `admin request`: changes that wait for a second person.

use super::policy::diff_text;
use super::server::{Server, kebab, show_list};
use crate::app::App;
use crate::args::policy::Request;
use crate::arguments;
use crate::commands::text;
use crate::error::Error;
use serde_json::Value;
use tobari_core::proto::policy::{ChangeRequest, ReasonInput};

const COLUMNS: [&str; 6] = ["id", "state", "requested-by", "expires", "summary", "reason"];

pub(super) fn run(args: Request, server: &mut Server, app: &mut App) -> Result<(), Error> {
    match args {
        Request::List => {
            let requests = server.change_requests()?;
            show_list(app, "requests", &requests, &COLUMNS, row)
        }
        Request::Show(args) => {
            let request = server.change_request(&args.request_id)?;
            show_request(app, &request)
        }
        Request::Approve(args) => {
            let request = server.change_request(&args.request_id)?;
            let path = format!("requests/{}/approve", request.id);
            let request: ChangeRequest = server.ask(&path, &ReasonInput { reason: args.because })?;
            show_request(app, &request)
        }
        Request::Refuse(args) => {
            let request = server.change_request(&args.request_id)?;
            let path = format!("requests/{}/refuse", request.id);
            let request: ChangeRequest = server.ask(&path, &ReasonInput { reason: args.because })?;
            show_request(app, &request)
        }
        Request::Apply(args) => {
            let request = server.change_request(&args.request_id)?;
            let made: Value = server.ask(&format!("requests/{}/apply", request.id), &Value::Null)?;
            server.changed(app);
            if app.settings.json {
                return app.json(&made);
            }
            app.note("request-made", &arguments! { summary: request.summary });
            // The address of an authenticator is shown this once.
            match made.get("otpauth").and_then(Value::as_str) {
                Some(otpauth) => {
                    app.line(otpauth)?;
                    app.note("otpauth-once", &arguments! {});
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }
}

fn row(app: &App, request: &ChangeRequest) -> Vec<String> {
    vec![
        request.id.to_string(),
        app.word(&format!("request-{}", kebab(&request.state))),
        request.requested_by_login.clone(),
        text::time(app, request.expires_at),
        request.summary.clone(),
        request.reason.clone(),
    ]
}

/// One request with its comparison.
pub(super) fn show_request(app: &mut App, request: &ChangeRequest) -> Result<(), Error> {
    if app.settings.json {
        return app.json(request);
    }
    let mut rows: Vec<Vec<String>> = COLUMNS
        .iter()
        .zip(row(app, request))
        .map(|(name, cell)| vec![app.word(&format!("column-{name}")), text::printable(&cell)])
        .collect();
    if let (Some(by), Some(why)) = (&request.decided_by_login, &request.decision_reason) {
        rows.push(vec![app.word("column-decided"), text::printable(&format!("{by}: {why}"))]);
    }
    let table = text::table(None, rows, 0);
    let diff = diff_text(app, &request.diff);
    app.line(&format!("{table}\n{diff}"))
}
