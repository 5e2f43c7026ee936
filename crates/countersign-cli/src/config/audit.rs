//! `[audit]`: how the trail is kept.

use std::time::Duration;

use countersign::audit::{Settings, WhenFull};
use serde::Deserialize;
use toml::Spanned;

use super::{Bounded, ConfigError, at_line};

/// What happens to attempts when the disk is full.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Full {
    /// They are refused.
    #[default]
    Refuse,
    /// They go on without a record.
    DangerContinue,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Audit {
    rotate_mib: Option<Bounded<1, 1024>>,
    keep_days: Option<Bounded<1, 36_500>>,
    keep_mib: Option<Spanned<Bounded<2, 16_777_216>>>,
    reserve_mib: Option<Bounded<0, 65_536>>,
    when_full: Full,
    danger_no_sync: bool,
}

/// Some thirty thousand records.
const RESERVE_MIB: u64 = 16;

impl Audit {
    /// The trail's settings. Only one process keeps room on the disk: the one that serves.
    pub(crate) fn settings(&self, serves: bool) -> Settings {
        let mut settings = Settings::default();
        if let Some(mib) = self.rotate_mib {
            settings.rotate_bytes = mib.0 << 20;
        }
        if let Some(days) = self.keep_days {
            settings.keep = Duration::from_secs(days.0 * 24 * 60 * 60);
        }
        if let Some(mib) = &self.keep_mib {
            settings.keep_bytes = mib.as_ref().0 << 20;
        }
        if serves {
            settings.reserve_bytes = self.reserve_mib.map_or(RESERVE_MIB, |mib| mib.0) << 20;
        }
        settings.when_full = match self.when_full {
            Full::Refuse => WhenFull::Refuse,
            Full::DangerContinue => WhenFull::DangerContinue,
        };
        settings.danger_no_sync = self.danger_no_sync;
        settings
    }

    /// What one value allows another.
    pub(super) fn check(&self, text: &str) -> Result<(), ConfigError> {
        let Settings { rotate_bytes, .. } = self.settings(true);
        match &self.keep_mib {
            Some(keep) if keep.as_ref().0 << 20 < 2 * rotate_bytes => {
                let error = format!(
                    "what is kept has to be at least two files of {} MiB (`rotate_mib`)",
                    rotate_bytes >> 20
                );
                Err(at_line(text, keep.span().start, &error))
            }
            _ => Ok(()),
        }
    }
}
