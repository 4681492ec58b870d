//! `login`, `logout`, `whoami`.

use super::text;
use crate::app::App;
use crate::args::Login;
use crate::arguments;
use crate::error::Error;
use tobari_core::proto::api::Session;
use tobari_core::proto::control::{Answer, Request};
use zeroize::Zeroize as _;

/// `tobari login`.
pub(super) fn login(args: Login, app: &mut App) -> Result<(), Error> {
    // Before anything is asked: without a daemon the answers would be for nothing.
    let mut client = app.client()?;
    let login = match args.login {
        Some(login) => login,
        None if args.password_stdin => {
            return Err(Error::Usage { what: "login-missing", detail: String::new() });
        }
        None => app.ask_line("prompt-login")?,
    };
    let password =
        if args.password_stdin { app.secret_from_input()? } else { app.ask_secret("prompt-password")? };
    let totp = match args.totp {
        None if !args.password_stdin => Some(app.ask_line("prompt-totp")?),
        given => given,
    };
    let totp = totp.filter(|code| !code.is_empty());
    let mut request = Request::Login { login, password: password.to_string(), totp };
    let answer = client.ask(&request, &[]);
    if let Request::Login { password, .. } = &mut request {
        password.zeroize();
    }
    let Answer::Session { session } = answer? else {
        return Err(Error::DaemonAnswer);
    };
    if app.settings.json {
        return app.json(&session);
    }
    app.note(
        "logged-in",
        &arguments! {
            login: text::printable(&session.login),
            name: text::printable(&session.name),
            expires: text::time(app, session.expires_at),
        },
    );
    Ok(())
}

/// `tobari logout`.
pub(super) fn logout(app: &mut App) -> Result<(), Error> {
    app.client()?.ask(&Request::Logout, &[])?;
    if app.settings.json {
        return app.json(&serde_json::json!({ "logged_out": true }));
    }
    app.note("logged-out", &arguments! {});
    Ok(())
}

/// `tobari whoami`.
pub(super) fn whoami(app: &mut App) -> Result<(), Error> {
    let Answer::Session { session } = app.client()?.ask(&Request::Whoami, &[])? else {
        return Err(Error::DaemonAnswer);
    };
    if app.settings.json {
        return app.json(&session);
    }
    let text = describe(app, &session);
    app.line(&text)
}

fn describe(app: &App, session: &Session) -> String {
    let memberships: Vec<String> =
        session.memberships.iter().map(|one| format!("{} {}", one.group_name, one.post_name)).collect();
    let roles: Vec<String> = session
        .roles
        .iter()
        .filter_map(|role| Some(serde_json::to_value(role).ok()?.as_str()?.to_owned()))
        .collect();
    let or_none = |list: Vec<String>| match list.is_empty() {
        true => app.word("none"),
        false => text::printable(&list.join(", ")),
    };
    let yes_or_no = if session.second_factor { "yes" } else { "no" };
    let row = |name: &str, value: String| vec![app.word(name), value];
    let rows = vec![
        row("whoami-login", text::printable(&session.login)),
        row("whoami-name", text::printable(&session.name)),
        row("whoami-memberships", or_none(memberships)),
        row("whoami-roles", or_none(roles)),
        row("whoami-second-factor", app.word(yes_or_no)),
        row("whoami-expires", text::time(app, session.expires_at)),
    ];
    text::table(None, rows, 0)
}
