//! The role `gateway`: views that stay mounted, for a share such as Samba to serve. The share takes on the uid of whom it
//! authenticated (`users`), and grants are asked for that person, whom this terminal asserts (`asserted`). Which
//! folder is mounted where is configured; what the folder is comes from the bulletin, so the views follow it. Where no
//! view is mounted, nothing can be written: a share must not take files in the clear (`place`).

mod asserted;
mod place;
mod settings;
mod users;

pub use asserted::Asserted;
pub use place::PlaceError;
pub use settings::{GatewaySettings, MountSetting, RawGateway};
pub use users::{UserMapError, Users};

use crate::failure::Failure;
use crate::seal::FolderRule;
use crate::service::Service;
use crate::sessions::Login;
use crate::view::{Access, Folder, Mount, Options};
use place::Place;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose grants the share's requests are served with: those of the person who belongs to the uid.
struct People {
    service: Arc<Service>,
    users: Users,
}

impl Access for People {
    fn person(&self, uid: u32, _pid: u32) -> Result<Arc<Login>, Failure> {
        let login = self.users.login_of(uid)?;
        self.service.assert(&login)
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// A mount point or the directory of the views.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The map of users.
    #[error(transparent)]
    Users(#[from] UserMapError),
}

/// The views of a gateway.
pub struct Gateway {
    service: Arc<Service>,
    access: Arc<People>,
    spots: Mutex<Vec<Spot>>,
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gateway").finish_non_exhaustive()
    }
}

/// One configured mount.
struct Spot {
    folder: PathBuf,
    place: Place,
    view: Option<(FolderRule, Mount)>,
    /// Why there is no view; told once.
    told: Option<String>,
}

impl Gateway {
    /// Makes the mount points ready and mounts what the bulletin in force has.
    ///
    /// # Errors
    /// When a mount point cannot be made safe, or the map of users is not one. A folder that cannot be
    /// shown is no error: it is tried again at each [`follow`](Self::follow).
    pub fn start(service: &Arc<Service>, settings: &GatewaySettings) -> Result<Self, GatewayError> {
        let users = Users::new(settings.user_map.as_deref())?;
        let access = Arc::new(People { service: Arc::clone(service), users });
        let spots = settings
            .mounts
            .iter()
            .enumerate()
            .map(|(number, mount)| {
                let place = Place::prepare(&mount.at, &settings.views_dir, number)?;
                Ok(Spot { folder: mount.folder.clone(), place, view: None, told: None })
            })
            .collect::<Result<_, PlaceError>>()?;
        let gateway = Self { service: Arc::clone(service), access, spots: Mutex::new(spots) };
        gateway.follow();
        Ok(gateway)
    }

    /// Mounts and unmounts what the bulletin in force has changed.
    pub fn follow(&self) {
        let rules = FolderRule::of_terminal(&self.service.bulletin(), self.service.terminal());
        for spot in self.spots().iter_mut() {
            let rule = rules.iter().find(|rule| spot.folder.as_os_str() == rule.folder.path.as_str());
            spot.follow(rule, &self.service, &self.access);
        }
    }

    /// Seals what is not sealed yet and unmounts.
    pub fn stop(&self) {
        for spot in self.spots().iter_mut() {
            spot.end();
        }
    }

    fn spots(&self) -> MutexGuard<'_, Vec<Spot>> {
        self.spots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spot {
    fn follow(&mut self, rule: Option<&FolderRule>, service: &Arc<Service>, access: &Arc<People>) {
        let same =
            |shown: &FolderRule, rule: &FolderRule| shown.folder == rule.folder && shown.keys == rule.keys;
        if let Some((shown, _)) = &self.view {
            if rule.is_some_and(|rule| same(shown, rule)) {
                return;
            }
            tracing::info!(at = %self.place.at().display(), "the folder's rule has changed: its view ends");
            self.end();
        }
        let shown = match rule {
            None => Err(String::from("it is no designated folder of this terminal")),
            Some(rule) => self.show(rule, service, access),
        };
        match shown {
            Ok(()) => {
                self.told = None;
                tracing::info!(folder = %self.folder.display(), at = %self.place.at().display(), "a view is mounted");
            }
            Err(why) if self.told.as_ref() == Some(&why) => {}
            Err(why) => {
                tracing::error!(
                    folder = %self.folder.display(), at = %self.place.at().display(), why,
                    "no view is mounted; the share's folder stays closed"
                );
                self.told = Some(why);
            }
        }
    }

    fn show(
        &mut self,
        rule: &FolderRule,
        service: &Arc<Service>,
        access: &Arc<People>,
    ) -> Result<(), String> {
        let folder = Folder::open(rule.clone()).map_err(|error| error.to_string())?;
        let access: Arc<dyn Access> = Arc::clone(access) as _;
        let mount = Mount::start(service, folder, self.place.private(), access, &Options::default())
            .map_err(|error| error.to_string())?;
        if let Err(error) = self.place.show() {
            end(mount, &self.folder);
            return Err(error.to_string());
        }
        self.view = Some((rule.clone(), mount));
        Ok(())
    }

    fn end(&mut self) {
        let Some((_, mount)) = self.view.take() else { return };
        // Out of sight first: what comes now finds the closed directory beneath.
        if let Err(error) = self.place.hide() {
            tracing::error!(at = %self.place.at().display(), %error, "failed to unmount a view");
        }
        end(mount, &self.folder);
    }
}

fn end(mount: Mount, folder: &std::path::Path) {
    if let Err(error) = mount.end() {
        report(folder, &error);
    }
}

fn report(folder: &std::path::Path, error: &io::Error) {
    tracing::error!(folder = %folder.display(), %error, "a view did not end cleanly");
}

#[cfg(test)]
mod tests;
