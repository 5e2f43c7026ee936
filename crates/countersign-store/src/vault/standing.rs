//! What goes on after what Vault has said, or has not said: the last good state, or nobody. No clock, no disk and no
//! network in here, so that all of it can be read, and tried, as one table.

use super::VaultError;
use super::copy::Age;
use super::error::Class;

/// How far what is known may be relied on.
#[derive(Clone, Debug)]
pub(super) enum Standing {
    /// Vault has just said so.
    Current,
    /// Vault has not said anything of use since.
    Copy(VaultError, Age),
    /// Vault says no.
    Refused(VaultError),
}

/// What the copy that bridges an outage is for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copying {
    /// It stays as it is.
    Leave,
    /// It is written if that was long ago.
    KeepNowAndThen,
    /// The same, more often: its age has to outlive a restart.
    KeepOften,
    /// It is written.
    Keep,
    /// It is removed: switching Vault off afterwards must not bring it back.
    Drop,
}

/// What whoever watches the service is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tell {
    Nothing,
    /// Vault is away.
    Away,
    /// It is still away: told now and then.
    StillAway,
    /// It answers again.
    Back,
    /// It says no.
    Refused,
    /// It does not say no any more.
    LetIn,
}

impl Standing {
    /// After Vault has said something of use, and it was taken over.
    pub(super) const fn after_good(&self) -> (Self, Copying, Tell) {
        let tell = match self {
            Self::Current => Tell::Nothing,
            Self::Copy(..) => Tell::Back,
            Self::Refused(_) => Tell::LetIn,
        };
        (Self::Current, Copying::KeepNowAndThen, tell)
    }

    /// After it has said something else, or nothing. What is known was current `age` ago.
    pub(super) fn after(&self, error: VaultError, age: Age) -> (Self, Copying, Tell) {
        match (error.class(), self) {
            (Class::Refusal, Self::Refused(_)) => (Self::Refused(error), Copying::Drop, Tell::Nothing),
            (Class::Refusal, _) => (Self::Refused(error), Copying::Drop, Tell::Refused),
            // That it is away now takes nothing back.
            (Class::Outage | Class::Nonsense, Self::Refused(_)) => {
                (self.clone(), Copying::Leave, Tell::Nothing)
            }
            (Class::Outage | Class::Nonsense, Self::Current) => {
                (Self::Copy(error, age), Copying::Keep, Tell::Away)
            }
            (Class::Outage | Class::Nonsense, Self::Copy(_, since)) => {
                (Self::Copy(error, *since), Copying::KeepOften, Tell::StillAway)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use countersign_protocol::UnixTime;

    use super::super::DocumentFault;
    use super::*;

    fn address() -> String {
        "https://vault.example:8200".to_owned()
    }

    fn refusals() -> Vec<VaultError> {
        vec![
            VaultError::Login { how: "AppRole", status: 400 },
            VaultError::Denied { what: "reading", path: "secret/data/x".to_owned() },
            VaultError::NotMounted { path: "secret/data/x".to_owned() },
        ]
    }

    fn no_refusals() -> Vec<VaultError> {
        vec![
            VaultError::LoginHeldUp { how: "AppRole", status: 403 },
            VaultError::Unreachable { address: address(), why: "refused".to_owned() },
            VaultError::Silent { address: address(), seconds: 5 },
            VaultError::Sealed { address: address() },
            VaultError::Busy { address: address() },
            VaultError::Redirected { address: address(), status: 307 },
            VaultError::Odd { address: address(), status: 403 },
            VaultError::NotVersioned { mount: "secret".to_owned() },
            VaultError::Document {
                path: "secret/x".to_owned(),
                mount: "secret".to_owned(),
                key: "x".to_owned(),
                what: DocumentFault::Form,
            },
            VaultError::Contended,
            VaultError::Gone,
        ]
    }

    fn current() -> Standing {
        Standing::Current
    }

    fn copy() -> Standing {
        Standing::Copy(VaultError::Sealed { address: address() }, age(1))
    }

    fn refused() -> Standing {
        Standing::Refused(VaultError::Login { how: "AppRole", status: 400 })
    }

    fn age(kept: u64) -> Age {
        let mut age = Age::new();
        age.kept = UnixTime(kept);
        age
    }

    const fn kind(standing: &Standing) -> &'static str {
        match standing {
            Standing::Current => "current",
            Standing::Copy(..) => "copy",
            Standing::Refused(_) => "refused",
        }
    }

    #[test]
    fn every_standing_after_everything_that_vault_can_say() {
        for (before, tell) in [(current(), Tell::Nothing), (copy(), Tell::Back), (refused(), Tell::LetIn)] {
            let (after, copying, told) = before.after_good();
            assert_eq!((kind(&after), copying, told), ("current", Copying::KeepNowAndThen, tell));
        }
        for error in refusals() {
            for (before, tell) in
                [(current(), Tell::Refused), (copy(), Tell::Refused), (refused(), Tell::Nothing)]
            {
                let (after, copying, told) = before.after(error.clone(), age(2));
                assert_eq!((kind(&after), copying, told), ("refused", Copying::Drop, tell), "{error}");
            }
        }
        for error in no_refusals() {
            for (before, expected) in [
                (current(), ("copy", Copying::Keep, Tell::Away)),
                (copy(), ("copy", Copying::KeepOften, Tell::StillAway)),
                (refused(), ("refused", Copying::Leave, Tell::Nothing)),
            ] {
                let (after, copying, told) = before.after(error.clone(), age(2));
                assert_eq!((kind(&after), copying, told), expected, "{error}");
            }
        }
    }

    #[test]
    fn an_outage_that_goes_on_makes_nothing_younger() {
        let kept = |standing: &Standing| match standing {
            Standing::Copy(_, age) => Some(age.kept),
            _ => None,
        };
        let outage = || VaultError::Busy { address: address() };
        let (first, ..) = current().after(outage(), age(7));
        assert_eq!(kept(&first), Some(UnixTime(7)));
        let (second, ..) = first.after(outage(), age(9));
        assert_eq!(kept(&second), Some(UnixTime(7)));
    }
}
