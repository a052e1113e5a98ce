//! Password hashes: Argon2id, as PHC strings that carry their own parameters.

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};

/// Memory of one check, in KiB: what the OWASP cheat sheet names for two passes and one lane.
const MEMORY_KIB: u32 = 19 * 1024;
const PASSES: u32 = 2;
const LANES: u32 = 1;
/// A hash in the accounts file that asks for more than this is refused when the file is read:
/// one line must not be able to take the machine's memory at each login.
const MAX_MEMORY_KIB: u32 = 256 * 1024;
const MAX_PASSES: u32 = 16;

/// Longest password in octets. RFC 4616 sets no limit; the hash should not be fed without one.
pub(crate) const MAX_PASSWORD: usize = 1_024;

/// Stands in the accounts file in place of a hash for an account that gets mail and cannot log in.
pub(crate) const LOCKED: &str = "!";

/// A hash could not be made or read.
#[derive(Debug, thiserror::Error)]
#[error("password hash: {0}")]
pub struct HashError(String);

/// Hashes a password with a new salt. Takes about 20 ms and 19 MiB.
///
/// # Errors
/// The system's source of randomness fails.
pub(crate) fn hash(password: &[u8]) -> Result<String, HashError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| HashError(error.to_string()))?;
    let hash: PasswordHash = Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password(password)
        .map_err(|error| HashError(error.to_string()))?;
    Ok(hash.to_string())
}

/// Whether the text is a hash that [`verify`] can check at a bearable cost.
pub(crate) fn check_form(hash: &str) -> Result<(), HashError> {
    if hash == LOCKED {
        return Ok(());
    }
    let parsed = PasswordHash::new(hash).map_err(|error| HashError(error.to_string()))?;
    if !parsed.algorithm.as_str().starts_with("argon2") {
        return Err(HashError(format!("{} is not supported", parsed.algorithm)));
    }
    let params = Params::try_from(&parsed).map_err(|error| HashError(error.to_string()))?;
    if params.m_cost() > MAX_MEMORY_KIB || params.t_cost() > MAX_PASSES {
        return Err(HashError(format!(
            "asks for more than {MAX_MEMORY_KIB} KiB or {MAX_PASSES} passes"
        )));
    }
    Ok(())
}

/// Whether the password belongs to the hash. Takes as long as the hash's own parameters say.
pub(crate) fn verify(password: &[u8], hash: &str) -> bool {
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_verify_their_password_only() {
        let hash = hash(b"correct horse").unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        check_form(&hash).unwrap();
        assert!(verify(b"correct horse", &hash));
        assert!(!verify(b"correct hors", &hash));
        assert!(!verify(b"", &hash));
    }

    #[test]
    fn bad_and_ruinous_hashes_are_refused() {
        for hash in [
            "",
            "secret",
            "$1$abc$def",
            "$argon2id$v=19$m=4194304,t=2,p=1$c29tZXNhbHQxMjM0$MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI",
        ] {
            assert!(check_form(hash).is_err(), "{hash}");
            assert!(hash.starts_with("$argon2id") || !verify(b"secret", hash));
        }
        check_form(LOCKED).unwrap();
        assert!(!verify(b"!", LOCKED));
    }
}
