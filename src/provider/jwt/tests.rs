//! What is signed here is verified by `jsonwebtoken` with RustCrypto, which share nothing with what has signed it.

use std::collections::HashSet;

use jsonwebtoken::{DecodingKey, Header, TokenData, Validation};
use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::provider::Input;

/// Keys as OpenSSL writes them: PKCS #1 with a certificate beside it, SEC 1, and PKCS #8 without the public half, as Apple
/// hands them out too.
const PKCS1: &str = include_str!("testdata/pkcs1.pem");
const SEC1: &str = include_str!("testdata/sec1.pem");
const PKCS8_EC: &str = include_str!("testdata/pkcs8-ec.pem");
const ED25519: &str = include_str!("testdata/ed25519.pem");

fn jwt(algorithm: Algorithm) -> Jwt {
    Jwt {
        key: SecretRef::File("/run/secrets/key.pem".into()),
        algorithm,
        hints: KeyHints::default(),
        header: Vec::new(),
        claims: vec![claim("iss", "me")],
        lifetime: Duration::from_mins(1),
    }
}

fn claim(name: &str, text: &str) -> (String, Json<Template<ClaimPart>>) {
    let template = Template::parse(text).unwrap();
    let resolved = template.resolve(|reference| {
        Ok::<_, ()>(match reference {
            crate::provider::template::Reference::KeyFingerprint => ClaimPart::Fingerprint,
            _ => ClaimPart::Input(0),
        })
    });
    (name.to_owned(), Json::Text(resolved.unwrap()))
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_700_000_000)
}

fn sign(jwt: &Jwt, key: &str) -> Result<String, FetchError> {
    let key = key.to_owned();
    let secrets = Secrets::supplied(move |_| Some(key.clone()));
    let subject = Subject::new([Input::Json("[1,\"a\"]")]);
    let signed = jwt.sign(&[], &subject, &secrets, now())?;
    Ok(signed.reveal().to_owned())
}

fn verify(token: &str, key: &DecodingKey, algorithm: Algorithm) -> TokenData<Value> {
    let mut validation = Validation::new(algorithm.name().parse().unwrap());
    validation.validate_exp = false;
    validation.validate_aud = false;
    jsonwebtoken::decode(token, key, &validation).unwrap()
}

fn header(jwt: &Jwt, key: &str) -> Header {
    jsonwebtoken::decode_header(sign(jwt, key).unwrap()).unwrap()
}

/// A private key and its public half, both in PEM.
fn pair(algorithm: Algorithm) -> (String, DecodingKey) {
    let made = |kind| {
        let pair = KeyPair::generate_for(kind).unwrap();
        (pair.serialize_pem(), pair.public_key_pem())
    };
    match algorithm {
        Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => {
            let secret = "a secret that both sides share, and nobody else";
            (
                secret.to_owned(),
                DecodingKey::from_secret(secret.as_bytes()),
            )
        }
        Algorithm::Es256 => {
            let (private, public) = made(&rcgen::PKCS_ECDSA_P256_SHA256);
            (
                private,
                DecodingKey::from_ec_pem(public.as_bytes()).unwrap(),
            )
        }
        Algorithm::Es384 => {
            let (private, public) = made(&rcgen::PKCS_ECDSA_P384_SHA384);
            (
                private,
                DecodingKey::from_ec_pem(public.as_bytes()).unwrap(),
            )
        }
        Algorithm::EdDsa => {
            let (private, public) = made(&rcgen::PKCS_ED25519);
            (
                private,
                DecodingKey::from_ed_pem(public.as_bytes()).unwrap(),
            )
        }
        _ => {
            let pair = KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, rcgen::RsaKeySize::_2048);
            let pair = pair.unwrap();
            let public = DecodingKey::from_rsa_pem(pair.public_key_pem().as_bytes());
            (pair.serialize_pem(), public.unwrap())
        }
    }
}

#[test]
fn another_implementation_verifies_every_algorithm() {
    for (name, algorithm) in Algorithm::ALL {
        let (private, public) = pair(algorithm);
        let token = sign(&jwt(algorithm), &private).unwrap();
        let verified = verify(&token, &public, algorithm);
        assert_eq!(verified.claims["iss"], "me", "{name}");
        assert_eq!(verified.header.typ.as_deref(), Some("JWT"), "{name}");
        let mut changed = token.clone();
        changed.replace_range(20..21, if &token[20..21] == "A" { "B" } else { "A" });
        let validation = Validation::new(name.parse().unwrap());
        assert!(jsonwebtoken::decode::<Value>(&changed, &public, &validation).is_err());
    }
}

#[test]
fn keys_as_openssl_writes_them_sign() {
    type Read = fn(&[u8]) -> Result<DecodingKey, jsonwebtoken::errors::Error>;
    let keys: [(&str, Algorithm, Read); 4] = [
        (PKCS1, Algorithm::Ps256, DecodingKey::from_rsa_pem),
        (SEC1, Algorithm::Es256, DecodingKey::from_ec_pem),
        (PKCS8_EC, Algorithm::Es256, DecodingKey::from_ec_pem),
        (ED25519, Algorithm::EdDsa, DecodingKey::from_ed_pem),
    ];
    for (pem, algorithm, read) in keys {
        let public = &pem[pem.find("-----BEGIN PUBLIC KEY").unwrap()..];
        let token = sign(&jwt(algorithm), pem).unwrap();
        verify(&token, &read(public.as_bytes()).unwrap(), algorithm);
    }
}

#[test]
fn issued_and_not_before_lie_ten_seconds_back_and_the_end_is_counted_from_them() {
    let (private, public) = pair(Algorithm::Es256);
    let token = sign(&jwt(Algorithm::Es256), &private).unwrap();
    let claims = verify(&token, &public, Algorithm::Es256).claims;
    assert_eq!(claims["iat"], 1_699_999_990);
    assert_eq!(claims["nbf"], 1_699_999_990);
    assert_eq!(claims["exp"], 1_700_000_050);
}

#[test]
fn no_two_tokens_have_the_same_jti() {
    let (private, public) = pair(Algorithm::Hs256);
    let jti = |_| {
        let token = sign(&jwt(Algorithm::Hs256), &private).unwrap();
        let claims = verify(&token, &public, Algorithm::Hs256).claims;
        claims["jti"].as_str().unwrap().to_owned()
    };
    let all: HashSet<String> = (0..100).map(jti).collect();
    assert_eq!(all.len(), 100);
    assert!(all.iter().all(|jti| jti.len() == 32));
}

// `openssl x509 -noout -fingerprint -sha1`, and `-sha256`, of the certificate in the file.
#[test]
fn the_certificate_is_named_as_openssl_names_it() {
    let mut jwt = jwt(Algorithm::Rs256);
    jwt.hints = KeyHints {
        kid: Some(Kid::Certificate),
        x5t: true,
        x5t_s256: true,
        x5c: true,
    };
    let header = header(&jwt, PKCS1);
    let sha1 = "8582089F2466529333665AF7B8C779C8F4E4F717";
    assert_eq!(header.kid.as_deref(), Some(sha1));
    let hex = |text: Option<String>| upper_hex(&URL_SAFE_NO_PAD.decode(text.unwrap()).unwrap());
    assert_eq!(hex(header.x5t), sha1);
    assert_eq!(
        hex(header.x5t_s256),
        "1ADCE794AC1F1B466004BB3D21ED32F5CADBFEE44E37BAA1D68B1AB3BEDA514C"
    );
    let certificate = PKCS1.split_once("-----BEGIN CERTIFICATE-----").unwrap().1;
    let certificate = certificate.split_once("-----END").unwrap().0;
    assert_eq!(header.x5c.unwrap(), [certificate.replace('\n', "")]);
}

#[test]
fn the_first_certificate_is_the_keys_own() {
    let pair = KeyPair::generate().unwrap();
    let certificate = |name: &str| {
        let params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.self_signed(&pair).unwrap()
    };
    let (own, other) = (certificate("own.example"), certificate("other.example"));
    let pem = format!("{}{}{}", own.pem(), other.pem(), pair.serialize_pem());
    let mut jwt = jwt(Algorithm::Es256);
    jwt.hints.kid = Some(Kid::Certificate);
    let sha1 = digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, own.der());
    assert_eq!(header(&jwt, &pem).kid.unwrap(), upper_hex(sha1.as_ref()));
}

#[test]
fn a_kid_and_further_fields_are_as_they_are_written() {
    let mut jwt = jwt(Algorithm::Hs256);
    jwt.hints.kid = Some(Kid::Literal("key-1".to_owned()));
    jwt.header = vec![claim("cty", "twilio-fpa;v=1")];
    let header = header(&jwt, "shared");
    assert_eq!(header.kid.as_deref(), Some("key-1"));
    assert_eq!(header.cty.as_deref(), Some("twilio-fpa;v=1"));
}

// `openssl rsa -pubout -outform DER | openssl dgst -sha256 -binary | openssl enc -base64`, as Snowflake's manual has it.
#[test]
fn a_claim_can_hold_the_fingerprint_of_the_key() {
    let mut jwt = jwt(Algorithm::Rs256);
    jwt.claims = vec![claim("iss", "ACCOUNT.USER.{key.sha256}")];
    let token = sign(&jwt, PKCS1).unwrap();
    let public = &PKCS1[PKCS1.find("-----BEGIN PUBLIC KEY").unwrap()..];
    let public = DecodingKey::from_rsa_pem(public.as_bytes()).unwrap();
    assert_eq!(
        verify(&token, &public, Algorithm::Rs256).claims["iss"],
        "ACCOUNT.USER.SHA256:X/p51mm0LOP8kAkFqAqlKfMG+bwAGZIoDwBrhzo8bQM="
    );
}

#[test]
fn an_input_on_its_own_keeps_its_type() {
    let mut jwt = jwt(Algorithm::Hs256);
    let nested = claim("list", "{input.x}").1;
    jwt.claims = vec![
        (
            "grants".to_owned(),
            Json::Object(vec![("list".to_owned(), nested)]),
        ),
        claim("text", "a {input.x}"),
    ];
    let (private, public) = pair(Algorithm::Hs256);
    let token = sign(&jwt, &private).unwrap();
    let claims = verify(&token, &public, Algorithm::Hs256).claims;
    assert_eq!(claims["grants"], json!({"list": [1, "a"]}));
    assert_eq!(claims["text"], "a [1,\"a\"]");
}

#[test]
fn what_is_wrong_with_a_key_is_told_with_its_place_and_without_its_content() {
    let (p384, _) = pair(Algorithm::Es384);
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nCNRY\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (algorithm, key, said) in [
        (Algorithm::Rs256, "CNRY", "holds no private key in PEM"),
        (
            Algorithm::Rs256,
            encrypted,
            "is encrypted, and nobody is here to type a passphrase",
        ),
        (
            Algorithm::Rs256,
            SEC1,
            "holds no key for RS256, which takes an RSA key of 2048 bits or more",
        ),
        (
            Algorithm::Es256,
            &p384,
            "holds no key for ES256, which takes a key on P-256",
        ),
        (
            Algorithm::EdDsa,
            PKCS1,
            "holds no key for EdDSA, which takes an Ed25519 key in PKCS #8",
        ),
    ] {
        let error = sign(&jwt(algorithm), key).unwrap_err();
        assert!(error.is_configuration_fault());
        assert_eq!(
            error.to_string(),
            format!("file /run/secrets/key.pem {said}")
        );
    }
    let mut jwt = jwt(Algorithm::Es256);
    jwt.hints.x5c = true;
    assert_eq!(
        sign(&jwt, SEC1).unwrap_err().to_string(),
        "file /run/secrets/key.pem holds no certificate beside the key"
    );
}
