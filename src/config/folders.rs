//! Where the four folders are.

use super::{ConfigError, RawConfig, value};
use crate::model::layout::Layout;

impl RawConfig {
    /// The folders of the shipper.
    ///
    /// # Errors
    /// [`ConfigError::Value`]: `data_dir` is missing, or two folders lie in one another.
    pub(crate) fn layout(&self) -> Result<Layout, ConfigError> {
        let shipper = &self.shipper;
        let data_dir = shipper.data_dir.as_ref().ok_or_else(|| {
            value(
                "shipper.data_dir",
                "is not set; set it in the configuration, or give --data DIR",
            )
        })?;
        let mut layout = Layout::below(data_dir);
        for (set, folder) in [
            (&shipper.episodes_dir, &mut layout.episodes),
            (&shipper.outbox_dir, &mut layout.outbox),
            (&shipper.shipped_dir, &mut layout.shipped),
            (&shipper.quarantine_dir, &mut layout.quarantine),
        ] {
            if let Some(set) = set {
                set.clone_into(folder);
            }
        }
        distinct(&layout)?;
        Ok(layout)
    }
}

fn distinct(layout: &Layout) -> Result<(), ConfigError> {
    let folders = [
        ("shipper.episodes_dir", &layout.episodes),
        ("shipper.outbox_dir", &layout.outbox),
        ("shipper.shipped_dir", &layout.shipped),
        ("shipper.quarantine_dir", &layout.quarantine),
    ];
    for (i, (key, folder)) in folders.iter().enumerate() {
        for (other, other_folder) in &folders[..i] {
            if folder.starts_with(other_folder) || other_folder.starts_with(folder) {
                let message = format!(
                    "lies in {other}, or the other way round; the four folders stand apart"
                );
                return Err(value(key, message));
            }
        }
    }
    Ok(())
}
