//! Where the database is.

use crate::{
    private_file::{PrivateFile, Readers, read_private_file},
    settings::settings,
};
use anteroom_store::PostgresAddress;
use anteroom_wire::Secret;
use std::path::{Path, PathBuf};

/// The most bytes of a password's file.
const PASSWORD_BYTES_MAX: u64 = 1_024;
/// The password as a systemd credential.
const PASSWORD_CREDENTIAL: &str = "database_password";

settings! {
    /// The database: a file, or a database of PostgreSQL (docs/postgresql.md).
    pub struct DatabaseSettings {
        /// The address of a database of PostgreSQL, without a password. Default: the file `anteroom.db` in `state_dir`.
        url: Option<String> = None, example r#""postgresql://anteroom@db.example/anteroom""#;
        /// File with the password of the database's user; only its owner may read it. Default: `database_password` in
        /// `$CREDENTIALS_DIRECTORY` (a systemd credential), if it exists, else none.
        password_file: Option<PathBuf> = None, example r#""/etc/anteroom/database_password""#;
    }
}

/// Why the password of the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("database.password_file {} {why}", path.display())]
pub struct DatabasePasswordError {
    path: PathBuf,
    why: String,
}

impl DatabaseSettings {
    /// Errors of the address and of combinations.
    pub(super) fn validation_errors(&self) -> Option<String> {
        match &self.url {
            Some(url) => url.parse::<PostgresAddress>().err().map(|error| format!("database.url {error}")),
            None if self.password_file.is_some() => {
                Some("database.url is not set, and database.password_file is: set both or none".to_owned())
            }
            None => None,
        }
    }

    /// The address with its password; `None`: the database is a file.
    pub(super) fn postgres_address(&self) -> Result<Option<PostgresAddress>, DatabasePasswordError> {
        // It was checked when the configuration was read.
        let Some(address) = self.url.as_ref().and_then(|url| url.parse::<PostgresAddress>().ok()) else {
            return Ok(None);
        };
        Ok(Some(address.with_password(self.read_password()?)))
    }

    fn read_password(&self) -> Result<Option<Secret>, DatabasePasswordError> {
        if let Some(path) = &self.password_file {
            return read_password(path, Readers::Owner).map(Some);
        }
        let directory = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from).filter(|path| path.is_absolute());
        let provided = directory.map(|directory| directory.join(PASSWORD_CREDENTIAL)).filter(|path| path.exists());
        provided.map(|path| read_password(&path, Readers::ByServiceManager)).transpose()
    }
}

fn read_password(path: &Path, readers: Readers) -> Result<Secret, DatabasePasswordError> {
    let failed = |why: String| DatabasePasswordError { path: path.to_owned(), why };
    match read_private_file(path, readers, PASSWORD_BYTES_MAX + 1) {
        Ok(PrivateFile::Text(text)) => {
            let line = text.strip_suffix('\n').unwrap_or(&text);
            if line.is_empty() || line.contains(char::is_control) || text.len() as u64 > PASSWORD_BYTES_MAX {
                return Err(failed(format!("must contain one line of at most {PASSWORD_BYTES_MAX} bytes")));
            }
            Ok(Secret::new(line.to_owned()))
        }
        Ok(PrivateFile::NotAFile) => Err(failed("is not a file".to_owned())),
        Ok(PrivateFile::ReadableByOthers { mode }) => {
            Err(failed(format!("may be read by others (mode {mode:04o}): chmod 600 it")))
        }
        Err(error) => Err(failed(format!("cannot be read: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn address_without_a_password_is_checked_and_never_repeated() {
        for (text, part) in [
            ("[database]\nurl = 'postgresql://a:hidden@h/d'\n", "database.password_file"),
            ("[database]\nurl = 'mysql://a:hidden@h/d'\n", "postgresql://"),
            ("[database]\npassword_file = '/x'\n", "database.url is not"),
        ] {
            let errors = Config::parse(text).unwrap_err().join("\n");
            assert!(errors.contains(part) && !errors.contains("hidden"), "{errors}");
        }
    }

    #[test]
    fn password_is_read_from_a_private_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        let url = Some("postgresql://ann@h/d".to_owned());
        let settings = DatabaseSettings { url, password_file: Some(path.clone()) };
        let read = |text: &str, mode| {
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            settings.read_password().map(|password| password.unwrap().expose().to_owned())
        };
        assert_eq!(read("s3cret \n", 0o600).unwrap(), "s3cret ");
        assert!(read("s3cret", 0o644).unwrap_err().to_string().contains("chmod 600"));
        assert!(read("two\nlines\n", 0o600).unwrap_err().to_string().contains("one line"));
        fs::write(&path, "s3cret").unwrap();
        let address = settings.postgres_address().unwrap().unwrap();
        assert!(!format!("{address} {address:?}").contains("s3cret"));
    }
}
