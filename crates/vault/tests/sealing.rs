//! Sealed content can be unsealed only unchanged and only with its binding.
#![allow(clippy::unwrap_used, reason = "a test reports errors by failing")]

use anteroom_vault::{Binding, InvalidRecord, KeyRing, SealError, SealedBytes};
use anteroom_wire::{CallerId, CredentialId, ProviderId, SessionId};
use proptest::prelude::*;
use std::sync::LazyLock;

struct Owned {
    record: CredentialId,
    owner: CallerId,
    provider: ProviderId,
    session: SessionId,
}

impl Owned {
    fn numbered(number: u64) -> Self {
        Self {
            record: CredentialId::from_parts(number, [1; 10]),
            owner: CallerId::from_parts(number, [2; 10]),
            provider: format!("tool_{number}").parse().unwrap(),
            session: SessionId::from_parts(number, [3; 10]),
        }
    }

    fn binding(&self) -> Binding<'_> {
        Binding {
            credential: &self.record,
            owner: &self.owner,
            user_id: Some("ada"),
            provider: &self.provider,
            session: &self.session,
            revision: 1,
        }
    }
}

static RING: LazyLock<KeyRing> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    KeyRing::open_or_create(&directory.path().join("keys.json")).unwrap()
});

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sealed_content_unseals_unchanged(plaintext in prop::collection::vec(any::<u8>(), 0..4096), number in 0u64..9) {
        let owned = Owned::numbered(number);
        let sealed = RING.seal(&owned.binding(), &plaintext).unwrap();
        let stored = SealedBytes::from_bytes(sealed.as_bytes().to_vec()).unwrap();
        prop_assert_eq!(&*RING.unseal(&owned.binding(), &stored).unwrap(), &plaintext);
    }

    #[test]
    fn a_changed_binding_cannot_unseal(a in 0u64..1000, b in 1000u64..2000, which in 0usize..7) {
        let (mine, theirs) = (Owned::numbered(a), Owned::numbered(b));
        let sealed = RING.seal(&mine.binding(), b"secret").unwrap();
        let mut moved = mine.binding();
        match which {
            0 => moved.credential = &theirs.record,
            1 => moved.owner = &theirs.owner,
            2 => moved.provider = &theirs.provider,
            3 => moved.session = &theirs.session,
            4 => moved.user_id = Some("eve"),
            5 => moved.user_id = None,
            _ => moved.revision = 2,
        }
        prop_assert_eq!(RING.unseal(&moved, &sealed).unwrap_err(), SealError::WrongBinding);
    }

    #[test]
    fn a_truncated_or_extended_record_cannot_be_unsealed(
        keep in 0usize..200,
        added in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let owned = Owned::numbered(1);
        let sealed = RING.seal(&owned.binding(), &[7; 48]).unwrap();
        let keep = keep.min(sealed.as_bytes().len() - 1);
        match SealedBytes::from_bytes(sealed.as_bytes()[..keep].to_vec()) {
            Ok(short) => prop_assert!(RING.unseal(&owned.binding(), &short).is_err()),
            Err(error) => prop_assert_eq!(error, InvalidRecord::TooShort { bytes: keep }),
        }
        if let Ok(long) = SealedBytes::from_bytes([sealed.as_bytes(), &added].concat()) {
            prop_assert!(RING.unseal(&owned.binding(), &long).is_err());
        }
    }
}

#[test]
fn every_flipped_bit_is_detected() {
    let owned = Owned::numbered(1);
    let sealed = RING.seal(&owned.binding(), b"a credential").unwrap();
    for position in 0..sealed.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[position] ^= 1 << bit;
            if let Ok(changed) = SealedBytes::from_bytes(bytes) {
                assert!(RING.unseal(&owned.binding(), &changed).is_err(), "byte {position}, bit {bit}");
                let rewrapped = RING.rewrap(&changed).map(|changed| RING.unseal(&owned.binding(), &changed).is_ok());
                assert_ne!(rewrapped, Ok(true), "byte {position}, bit {bit}: accepted after rewrapping");
            }
        }
    }
}

#[test]
fn parts_of_two_records_cannot_be_combined() {
    let (mine, theirs) = (Owned::numbered(1), Owned::numbered(2));
    let (a, b) = (RING.seal(&mine.binding(), b"mine").unwrap(), RING.seal(&theirs.binding(), b"hers").unwrap());
    let (a, b) = (a.as_bytes(), b.as_bytes());
    for cut in [40, 64, 112, 136] {
        let mixed = SealedBytes::from_bytes([&a[..cut], &b[cut..]].concat()).unwrap();
        assert!(RING.unseal(&mine.binding(), &mixed).is_err(), "cut at {cut}");
        assert!(RING.unseal(&theirs.binding(), &mixed).is_err(), "cut at {cut}");
    }
}

#[test]
fn sealing_twice_gives_different_records_without_plaintext() {
    let owned = Owned::numbered(1);
    let canary = b"CANARY-0123456789";
    let (a, b) = (RING.seal(&owned.binding(), canary).unwrap(), RING.seal(&owned.binding(), canary).unwrap());
    assert_ne!(a.as_bytes()[40..], b.as_bytes()[40..]);
    assert!(!a.as_bytes().windows(8).any(|window| window == &canary[..8]));
    assert_eq!(format!("{a:?}"), format!("Sealed(key 1, {} bytes)", a.as_bytes().len()));
}

#[test]
fn the_layout_matches_the_documentation() {
    let sealed = RING.seal(&Owned::numbered(1).binding(), &[0; 5]).unwrap();
    assert_eq!(sealed.as_bytes().len(), 136 + 5 + 16);
    assert_eq!(&sealed.as_bytes()[..8], b"ATS2\0\0\0\x01");
    assert_eq!(SealedBytes::from_bytes(vec![0; 200]).unwrap_err(), InvalidRecord::UnknownFormat);
}

#[test]
fn rotation_keeps_old_records_readable_and_rewraps_them() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("keys.json");
    let old_ring = KeyRing::open_or_create(&path).unwrap();
    let owned = Owned::numbered(1);
    let old = old_ring.seal(&owned.binding(), b"secret").unwrap();

    let ring = KeyRing::open(&path).unwrap();
    ring.install(ring.add_key().unwrap());
    assert_eq!(ring.key_ids().iter().map(|id| id.0).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(&*ring.unseal(&owned.binding(), &old).unwrap(), b"secret");
    let new = ring.rewrap(&old).unwrap();
    assert_eq!((old.key_id().0, new.key_id().0), (1, 2));
    assert_eq!(&*ring.unseal(&owned.binding(), &new).unwrap(), b"secret");
    assert_eq!(old_ring.unseal(&owned.binding(), &new).unwrap_err(), SealError::UnknownKey { key: new.key_id() });

    // Other keys with the same numbers.
    let stranger = KeyRing::open_or_create(&directory.path().join("other.json")).unwrap();
    assert_eq!(stranger.unseal(&owned.binding(), &old).unwrap_err(), SealError::AuthenticationFailed);
    assert_eq!(stranger.rewrap(&old).unwrap_err(), SealError::AuthenticationFailed);
}

#[test]
fn derived_keys_depend_on_key_and_purpose() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("vault.key");
    let ring = KeyRing::open_or_create(&path).unwrap();
    ring.install(ring.add_key().unwrap());
    let derived = ring.derive_keys("one purpose");
    assert_eq!(derived.iter().map(|(id, _)| *id).collect::<Vec<_>>(), ring.key_ids());
    assert_ne!(derived[0].1, derived[1].1);
    assert_eq!(derived, KeyRing::open(&path).unwrap().derive_keys("one purpose"));
    assert_ne!(derived, ring.derive_keys("another purpose"));
}
