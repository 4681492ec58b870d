//! Passwords: Argon2id hashes, made and checked on the blocking pool, few at a time, because each takes
//! 19 MiB and tens of milliseconds.

use super::error::ServiceError;
use argon2::Argon2;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _, phc::PasswordHash};
use tobari_core::crypto::random_bytes;
use tobari_core::policy::fold_name;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Shortest password, in characters.
pub(crate) const MIN_PASSWORD: usize = 8;
/// Longest password, in bytes: hashing must not become a way to keep the server busy.
pub(crate) const MAX_PASSWORD: usize = 1024;
/// Hashes at one time.
const CONCURRENT: usize = 2;
/// Hashes waiting; beyond this the caller is told to come back.
const WAITING: usize = 64;

/// Makes and checks password hashes.
pub(crate) struct Passwords {
    running: Semaphore,
    waiting: Semaphore,
    /// Checked when there is no such person, so that the answer takes as long.
    dummy: String,
}

/// Refuses passwords that are too easy.
pub(crate) fn check_rules(password: &str, login: &str) -> Result<(), ServiceError> {
    let refuse = |detail: String| Err(ServiceError::invalid("password", detail));
    if password.chars().count() < MIN_PASSWORD {
        return refuse(format!("must have at least {MIN_PASSWORD} characters"));
    }
    if password.len() > MAX_PASSWORD {
        return refuse(format!("must have at most {MAX_PASSWORD} bytes"));
    }
    if fold_name(password) == fold_name(login) {
        return refuse(String::from("must not be the login name"));
    }
    let mut characters = password.chars();
    if let Some(first) = characters.next()
        && characters.all(|character| character == first)
    {
        return refuse(String::from("must not be one character repeated"));
    }
    Ok(())
}

/// Hashes a password; slow.
pub(crate) fn hash(password: &str) -> Result<String, ServiceError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| ServiceError::Internal(format!("argon2: {error}")))
}

impl Passwords {
    /// Slow: hashes once.
    pub(crate) fn new() -> Result<Self, ServiceError> {
        let nobody: [u8; 16] = random_bytes();
        Ok(Self {
            running: Semaphore::new(CONCURRENT),
            waiting: Semaphore::new(WAITING),
            dummy: hash(&data_encoding::HEXLOWER.encode(&nobody))?,
        })
    }

    /// Hashes a password.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, ServiceError> {
        self.run(move || hash(&password)).await?
    }

    /// Whether the password is the one with this hash; without a hash, takes as long and says no.
    pub(crate) async fn check(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool, ServiceError> {
        let known = hash.is_some();
        let hash = hash.unwrap_or_else(|| self.dummy.clone());
        let fits = self
            .run(move || -> Result<bool, ServiceError> {
                if password.len() > MAX_PASSWORD {
                    return Ok(false);
                }
                let hash = PasswordHash::new(&hash)
                    .map_err(|_| ServiceError::Internal(String::from("a stored password hash is damaged")))?;
                Ok(Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
            })
            .await??;
        Ok(fits && known)
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ServiceError> {
        let _waiting = self.waiting.try_acquire().map_err(|_| ServiceError::TooManyRequests)?;
        let _running = self.running.acquire().await.map_err(|_| ServiceError::TooManyRequests)?;
        tokio::task::spawn_blocking(work).await.map_err(|error| ServiceError::Internal(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn easy_passwords_are_refused() {
        for (password, login) in [
            ("short7!", "x"),
            ("kaneko.taro", "kaneko.taro"),
            ("ＫＡＮＥＫＯ.taro", "kaneko.taro"),
            ("aaaaaaaaaaaa", "x"),
        ] {
            assert!(check_rules(password, login).is_err(), "{password}");
        }
        assert!(check_rules(&"長".repeat(500), "x").is_err());
        check_rules("帳の向こうの庭で", "x").unwrap();
    }
}
