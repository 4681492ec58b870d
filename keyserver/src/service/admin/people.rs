//! People. An administrator changes only people whose roles are all their own too, and gives only roles that
//! they hold: nobody makes themselves more than they are.

use super::plan::{Acting, Plan};
use super::{MAX_LIST, POLICY, Part, check_name};
use crate::audit::Act;
use crate::service::directory::Directory;
use crate::service::error::{ServiceError, role_name};
use crate::service::judge::Warrant;
use crate::service::{Call, Service, identity, password, totp};
use crate::store::{Change, PersonRow, Tables};
use tobari_core::ids::PersonId;
use tobari_core::policy::fold_name;
use tobari_core::proto::admin::{PersonInput, PersonRecord, Role};
use zeroize::Zeroizing;

fn record(row: &PersonRow, otpauth: Option<String>) -> PersonRecord {
    PersonRecord {
        id: row.id,
        login: row.login.clone(),
        name: row.name.clone(),
        memberships: row.memberships.clone(),
        roles: row.roles.clone(),
        disabled: row.disabled,
        has_totp: row.sealed_totp.is_some(),
        otpauth,
    }
}

/// Refuses login names that cannot be typed or shown safely.
pub(crate) fn check_login(login: &str) -> Result<(), ServiceError> {
    check_name("login", login)?;
    let allowed =
        |character: char| !character.is_whitespace() && !matches!(character, ':' | '/' | '\\' | '"');
    if !login.trim().chars().all(allowed) {
        return Err(ServiceError::invalid(
            "login",
            "must not contain white space, quotes, colons or slashes",
        ));
    }
    Ok(())
}

/// A person with these fields; the caller has checked them.
pub(crate) fn new_person(login: &str, name: &str, password_hash: String, roles: Vec<Role>) -> PersonRow {
    let login = login.trim();
    PersonRow {
        id: PersonId::generate(),
        login: login.to_owned(),
        login_key: fold_name(login),
        name: name.trim().to_owned(),
        password_hash,
        sealed_totp: None,
        memberships: Vec::new(),
        roles,
        disabled: false,
    }
}

fn sorted<T: Ord>(mut values: Vec<T>) -> Vec<T> {
    values.sort_unstable();
    values.dedup();
    values
}

pub(super) fn check(tables: &Tables, input: &PersonInput) -> Result<(), ServiceError> {
    check_login(&input.login)?;
    check_name("name", &input.name)?;
    if let Some(password) = &input.password {
        password::check_rules(password, &input.login)?;
    }
    if input.memberships.len() > MAX_LIST {
        return Err(ServiceError::invalid("memberships", format!("must have at most {MAX_LIST} entries")));
    }
    for (index, held) in input.memberships.iter().enumerate() {
        if !tables.groups.contains_key(&held.group) {
            return Err(ServiceError::invalid(format!("memberships[{index}].group"), "no such group"));
        }
        if !tables.posts.contains_key(&held.post) {
            return Err(ServiceError::invalid(format!("memberships[{index}].post"), "no such post"));
        }
    }
    Ok(())
}

/// Roles that only somebody who holds them may give, take or lean on.
fn check_powers(acting: &Acting, roles: &[Role]) -> Result<(), ServiceError> {
    match roles.iter().find(|role| !acting.roles.contains(role)) {
        None => Ok(()),
        Some(role) => Err(ServiceError::NotAdministrator(*role)),
    }
}

/// Somebody must be left who can manage people.
fn check_last_administrator(
    tables: &Tables,
    id: PersonId,
    after: Option<&PersonRow>,
) -> Result<(), ServiceError> {
    let manages = |row: &PersonRow| !row.disabled && row.roles.contains(&Role::Policy);
    let others = tables.people.values().any(|row| row.id != id && manages(row));
    if others || after.is_some_and(manages) {
        return Ok(());
    }
    Err(ServiceError::conflict("roles", "this is the last person who can manage people"))
}

impl Service {
    /// `GET /v1/admin/people`. A name is a login name.
    ///
    /// # Errors
    /// No administrator, a limit out of range.
    pub async fn people(&self, call: &Call, part: Part<PersonId>) -> Result<Vec<PersonRecord>, ServiceError> {
        self.any_administrator(call).await?;
        let directory = self.directory.load_full();
        let login = part.named.as_deref().map(fold_name);
        let fits = |row: &PersonRow| login.as_ref().is_none_or(|login| *login == row.login_key);
        let people = part.of(&directory.tables.people, fits)?;
        Ok(people.into_iter().map(|row| record(row, None)).collect())
    }

    /// `GET /v1/admin/people/{id}`.
    ///
    /// # Errors
    /// No administrator, no such person.
    pub async fn person(&self, call: &Call, id: PersonId) -> Result<PersonRecord, ServiceError> {
        let tables = self.read_tables(call).await?;
        tables.people.get(&id).map(|row| record(row, None)).ok_or(ServiceError::NotFound("person"))
    }

    /// `POST /v1/admin/people`.
    ///
    /// # Errors
    /// No policy administrator, or fields that are not allowed.
    pub async fn create_person(&self, call: &Call, input: PersonInput) -> Result<PersonRecord, ServiceError> {
        self.put_person(call, None, input).await
    }

    /// `PUT /v1/admin/people/{id}`. A new password, a new TOTP secret and disabling end all sessions.
    ///
    /// # Errors
    /// No policy administrator, no such person, or fields that are not allowed.
    pub async fn replace_person(
        &self,
        call: &Call,
        id: PersonId,
        input: PersonInput,
    ) -> Result<PersonRecord, ServiceError> {
        self.put_person(call, Some(id), input).await
    }

    async fn put_person(
        &self,
        call: &Call,
        id: Option<PersonId>,
        input: PersonInput,
    ) -> Result<PersonRecord, ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        check(&self.directory.load().tables, &input)?;
        let new_hash = match &input.password {
            Some(password) => Some(self.passwords.hash(Zeroizing::new(password.clone())).await?),
            None => None,
        };
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        if id.is_some_and(|id| !directory.tables.people.contains_key(&id)) {
            return Err(ServiceError::NotFound("person"));
        }
        let id = id.unwrap_or_else(PersonId::generate);
        let plan = self.plan_person(&Acting::from(&caller), &directory, id, input, new_hash)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    /// A new person, or other fields of one that there is. A password comes as its hash.
    pub(super) fn plan_person(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: PersonId,
        input: PersonInput,
        new_hash: Option<String>,
    ) -> Result<Plan<PersonRecord>, ServiceError> {
        // Again: groups and posts may have gone while the password was hashed.
        check(&directory.tables, &input)?;
        check_powers(acting, &input.roles)?;
        let before = directory.tables.people.get(&id).map(AsRef::as_ref);
        if let Some(before) = before {
            check_powers(acting, &before.roles)?;
        }
        let reset = input.new_totp || new_hash.is_some();
        let hash = match (new_hash, before) {
            (Some(hash), _) => hash,
            (None, Some(before)) => before.password_hash.clone(),
            (None, None) => return Err(ServiceError::invalid("password", "a new person needs a password")),
        };
        let mut row = new_person(&input.login, &input.name, hash, sorted(input.roles));
        row.id = id;
        row.memberships = sorted(input.memberships);
        row.disabled = input.disabled;
        row.sealed_totp = before.and_then(|before| before.sealed_totp.clone());
        let otpauth = if input.new_totp {
            let secret = totp::generate();
            row.sealed_totp = Some(self.identity.root_key.seal(&identity::totp_aad(row.id), &secret)?);
            Some(totp::uri(&secret, &row.login, &self.identity.name)?)
        } else {
            None
        };
        if before.is_some() {
            check_last_administrator(&directory.tables, row.id, Some(&row))?;
        }
        Ok(self.person_plan(acting, row, before, reset, otpauth))
    }

    fn person_plan(
        &self,
        acting: &Acting,
        row: PersonRow,
        before: Option<&PersonRow>,
        reset: bool,
        otpauth: Option<String>,
    ) -> Plan<PersonRecord> {
        let act = if before.is_some() { Act::Update } else { Act::Create };
        let roles: Vec<&str> = row.roles.iter().map(|role| role_name(*role)).collect();
        let record = self.acted(act, acting, "person", row.id).detail(format!(
            "login {}, {} memberships, roles [{}], disabled {}{}{}",
            row.login,
            row.memberships.len(),
            roles.join(", "),
            row.disabled,
            if reset && before.is_some() { ", credentials changed" } else { "" },
            if otpauth.is_some() { ", new TOTP secret" } else { "" },
        ));
        let mut changes = vec![Change::PutPerson(row.clone())];
        if otpauth.is_some() {
            changes.push(Change::ForgetTotpStep(row.id));
        }
        let ends_sessions = before.is_some() && (reset || row.disabled);
        if ends_sessions {
            changes.push(Change::DeleteSessionsOfPerson(row.id));
        }
        let mut plan = Plan::new(changes, record, self::record(&row, otpauth));
        plan.ends = ends_sessions.then_some(row.id);
        plan
    }

    /// `DELETE /v1/admin/people/{id}`: ends the person's sessions and revokes the id for good.
    ///
    /// # Errors
    /// No policy administrator, no such person, the last administrator.
    pub async fn delete_person(&self, call: &Call, id: PersonId) -> Result<(), ServiceError> {
        let caller = self.administrator(call, POLICY).await?;
        let changing = self.begin_change().await;
        let directory = self.directory.load_full();
        let plan = self.plan_no_person(&Acting::from(&caller), &directory, id)?;
        self.settle(&changing, plan, &Warrant::default()).await
    }

    pub(super) fn plan_no_person(
        &self,
        acting: &Acting,
        directory: &Directory,
        id: PersonId,
    ) -> Result<Plan<()>, ServiceError> {
        let before = directory.tables.people.get(&id).ok_or(ServiceError::NotFound("person"))?;
        check_powers(acting, &before.roles)?;
        check_last_administrator(&directory.tables, id, None)?;
        let record = self.acted(Act::Delete, acting, "person", id).detail(format!("login {}", before.login));
        let changes = vec![Change::DeletePerson(id), Change::DeleteSessionsOfPerson(id)];
        let mut plan = Plan::new(changes, record, ());
        plan.ends = Some(id);
        Ok(plan)
    }
}
