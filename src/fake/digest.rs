//! SHA-256 and HMAC-SHA-256, borrowed from the TLS library.

use rustls::Tls13CipherSuite;
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::tls13::OkmBlock;

/// The SHA-256 of `message`, in lower-case hexadecimal.
pub(super) fn sha256_hex(message: &[u8]) -> String {
    let Some(suite) = suite() else {
        return String::new();
    };
    let digest = suite.common.hash_provider.hash(message);
    digest
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The HMAC-SHA-256 of `message`.
pub(super) fn hmac_sha256(key: &[u8; 32], message: &[u8]) -> Vec<u8> {
    let Some(suite) = suite() else {
        return Vec::new();
    };
    suite
        .hkdf_provider
        .hmac_sign(&OkmBlock::new(key), message)
        .as_ref()
        .to_vec()
}

/// This suite is one of TLS 1.3; only the type does not know it.
fn suite() -> Option<&'static Tls13CipherSuite> {
    TLS13_AES_128_GCM_SHA256.tls13()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_sha_256() {
        assert_eq!(
            sha256_hex(b"abc"),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }

    #[test]
    fn the_code_is_hmac_sha_256() {
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe"); // RFC 4231 §4.3; HMAC fills a short key with zeros
        let code = hmac_sha256(&key, b"what do ya want for nothing?");
        assert_eq!(code[..4], [0x5b, 0xdc, 0xc1, 0x46]);
    }
}
