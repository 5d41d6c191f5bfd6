//! `[doctor]`: which unit the doctor looks at, and what a host out of the commit window should run.

use super::{ConfigError, RawConfig, value};

/// What the doctor is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DoctorConfig {
    /// The unit that runs the shipper, such as `sealift.service`.
    pub unit: String,
    /// What to type where the receiver does not take this host's commit; `None`: what the receiver
    /// says.
    pub update_command: Option<String>,
}

impl RawConfig {
    /// What the doctor is told.
    ///
    /// # Errors
    /// [`ConfigError::Value`]: the unit has no name that systemd would take for one, or the command
    /// is more than one line.
    pub(crate) fn doctor(&self) -> Result<DoctorConfig, ConfigError> {
        let unit = self.doctor.unit.clone();
        // systemd.unit(5): the characters of a name, and at most 255 of them. It must not pass for
        // an option.
        let named = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if unit.is_empty() || unit.len() > 255 || unit.starts_with('-') || !unit.chars().all(named)
        {
            return Err(value(
                "doctor.unit",
                format!("{unit:?} is no name of a unit, such as \"sealift.service\""),
            ));
        }
        // systemctl(1) takes a name without a suffix for a service's.
        let unit = if unit.contains('.') {
            unit
        } else {
            format!("{unit}.service")
        };
        let command = self.doctor.update_command.clone();
        if command.chars().any(char::is_control) {
            return Err(value(
                "doctor.update_command",
                "must be one line, as it is typed into a shell",
            ));
        }
        Ok(DoctorConfig {
            unit,
            update_command: Some(command).filter(|command| !command.trim().is_empty()),
        })
    }
}

#[cfg(test)]
mod tests {
    use crate::config::raw;

    #[test]
    fn a_unit_has_a_units_name_and_a_command_is_one_line() {
        for (text, unit) in [
            ("", Some("sealift.service")),
            ("unit = 'shipper'", Some("shipper.service")),
            (
                "unit = 'ship@a\\x2db.service'",
                Some("ship@a\\x2db.service"),
            ),
            ("unit = ''", None),
            ("unit = '-H evil'", None),
            ("unit = '--all'", None),
            ("unit = 'a b'", None),
            ("update_command = \"a\\nb\"", None),
        ] {
            let doctor = raw::parse(&format!("[doctor]\n{text}")).unwrap().doctor();
            assert_eq!(
                doctor.as_ref().map(|doctor| doctor.unit.as_str()).ok(),
                unit,
                "{text}: {doctor:?}"
            );
        }
        let set = |text: &str| {
            raw::parse(&format!("[doctor]\nupdate_command = '{text}'"))
                .unwrap()
                .doctor()
        };
        assert_eq!(
            set("cd /opt/lab && git pull")
                .unwrap()
                .update_command
                .unwrap(),
            "cd /opt/lab && git pull"
        );
        assert_eq!(set(" ").unwrap().update_command, None);
    }
}
