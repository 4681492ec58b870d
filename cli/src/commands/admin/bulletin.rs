//! `admin bulletin`: takes the signed bulletin out of the key server. Whoever carries it cannot change it, and it holds no secret.

use super::server::Server;
use crate::app::App;
use crate::error::Error;
use tobari_core::proto::bulletin::SignedBulletin;

pub(super) fn export(server: &mut Server, app: &mut App) -> Result<(), Error> {
    let signed: SignedBulletin = server.get("/v1/bulletin")?;
    app.json(&signed)
}
