//! The steps of sealing one file, named so that tests can fail or cut each of them.
//!
//! Shipped code has no way to install [`Faults`]: the constructors that take them exist in test builds only, and in
//! those with the feature `test-only-unsafe`, which the crash suite uses for its negative controls.

use super::durable::sync;
use super::stop::Stop;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

macro_rules! steps {
    ($($(#[$doc:meta])* $step:ident),* $(,)?) => {
        /// One step of the protocol, in the order in which they happen.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Step { $($(#[$doc])* $step,)* }

        #[cfg(test)]
        impl Step {
            /// Every step, in order.
            pub(crate) const ALL: &'static [Self] = &[$(Self::$step),*];
        }
    };
}

steps! {
    /// Walking to the directory of the file.
    OpenParent,
    /// Opening the file for reading.
    OpenFile,
    /// The first lease.
    LeaseFile,
    /// Making the envelope's temporary file.
    CreateEnvelope,
    /// Writing the envelope.
    WriteEnvelope,
    /// Giving it the file's owner, mode, attributes and times.
    CopyMetadata,
    /// Making the envelope durable.
    SyncEnvelope,
    /// Checking the envelope against the plaintext.
    ReadBack,
    /// Writing the journal's intent.
    WriteIntent,
    /// Making the intent durable.
    SyncIntent,
    /// Making the names in the control directory durable.
    SyncControl,
    /// The write leases of the moment of exchange, and the last look at the file.
    LeaseExchange,
    /// The exchange.
    Exchange,
    /// The look at what was exchanged.
    CheckExchange,
    /// Making the exchange durable: the file's directory.
    SyncParent,
    /// Making the exchange durable: the control directory.
    SyncExchanged,
    /// The fresh lease on the displaced file.
    LeaseDisplaced,
    /// Comparing the displaced file with what was sealed.
    CompareDisplaced,
    /// Taking away its mode, so that nobody comes in any more, and the last look.
    TakeMode,
    /// Removing the displaced plaintext.
    UnlinkDisplaced,
    /// Making the removal durable.
    SyncUnlink,
    /// Closing the journal's entry.
    CloseIntent,
}

/// A safeguard that a test may leave out, to show that the suite notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safeguard {
    /// All leases and the comparisons that they protect.
    Lease,
    /// The journal's intent.
    Journal,
    /// The read-back.
    ReadBack,
    /// Every sync of a directory, and for groups of the file system.
    DirectorySync,
}

/// What a test wants to happen at a step.
#[cfg_attr(not(test), expect(dead_code, reason = "only tests make faults"))]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The step fails with this errno, without being done.
    Errno(i32),
    /// The process ends here: nothing is cleaned up, descriptors close.
    Die,
}

/// Test-only faults.
pub(crate) trait Faults: Send + Sync {
    /// Asked before each step.
    fn before(&self, step: Step) -> Fault;
    /// Asked after each step that succeeded; an errno makes no sense here.
    fn after(&self, step: Step) -> Fault;
    /// Whether to leave a safeguard out.
    fn without(&self, safeguard: Safeguard) -> bool;
    /// A chance to spoil the envelope before it is read back.
    fn spoil(&self, envelope: &std::fs::File);
}

/// Runs steps, with a test's faults where there are any.
#[derive(Clone, Default)]
pub(crate) struct Steps(Option<Arc<dyn Faults>>);

impl Steps {
    /// Steps that suffer from `faults`.
    #[cfg(test)]
    pub(crate) fn test_only_with(faults: Arc<dyn Faults>) -> Self {
        Self(Some(faults))
    }

    /// Steps without `safeguard`.
    #[cfg(feature = "test-only-unsafe")]
    pub(crate) fn test_only_without(safeguard: Safeguard) -> Self {
        Self(Some(Arc::new(Without(safeguard))))
    }

    /// Does `step`, which is to make the names in `directory` durable.
    pub(crate) fn sync_directory(&self, step: Step, directory: impl AsFd) -> Result<(), Stop> {
        self.run(step, || if self.without(Safeguard::DirectorySync) { Ok(()) } else { Ok(sync(directory)?) })
    }

    /// Does `step`.
    pub(crate) fn run<T>(&self, step: Step, action: impl FnOnce() -> Result<T, Stop>) -> Result<T, Stop> {
        let Some(faults) = &self.0 else { return action().map_err(|stop| stop.at(step)) };
        match faults.before(step) {
            Fault::None => {}
            Fault::Errno(errno) => return Err(Stop::from(io::Error::from_raw_os_error(errno)).at(step)),
            Fault::Die => return Err(Stop::Died),
        }
        let value = action().map_err(|stop| stop.at(step))?;
        match faults.after(step) {
            Fault::Die => Err(Stop::Died),
            Fault::None | Fault::Errno(_) => Ok(value),
        }
    }

    /// Whether a test leaves `safeguard` out.
    pub(crate) fn without(&self, safeguard: Safeguard) -> bool {
        self.0.as_ref().is_some_and(|faults| faults.without(safeguard))
    }

    /// Lets a test spoil the envelope.
    pub(crate) fn spoil(&self, envelope: &std::fs::File) {
        if let Some(faults) = &self.0 {
            faults.spoil(envelope);
        }
    }
}

/// No fault, but one safeguard less.
#[cfg(feature = "test-only-unsafe")]
struct Without(Safeguard);

#[cfg(feature = "test-only-unsafe")]
impl Faults for Without {
    fn before(&self, _: Step) -> Fault {
        Fault::None
    }
    fn after(&self, _: Step) -> Fault {
        Fault::None
    }
    fn without(&self, safeguard: Safeguard) -> bool {
        self.0 == safeguard
    }
    fn spoil(&self, _: &std::fs::File) {}
}
