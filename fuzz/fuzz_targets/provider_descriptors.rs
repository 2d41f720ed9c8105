//! Provider descriptors, which operators copy from elsewhere.
#![no_main]

use anteroom_controller::providers::DescriptorSource;
use libfuzzer_sys::fuzz_target;

const ERRORS_MAX: usize = 1_000;

fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data).into_owned();
    let lines = text.split('\n').count();
    let parsed = DescriptorSource::parse_toml("demo", "demo.toml".to_owned(), text);
    match parsed.and_then(|source| source.to_provider()) {
        Ok(provider) => {
            assert_eq!(provider.validation_errors(), Vec::<String>::new());
            let written = toml::to_string(&provider).expect("a valid descriptor can be written");
            let again = DescriptorSource::parse_toml("demo", "demo.toml".to_owned(), written);
            let again = again.and_then(|source| source.to_provider()).expect("and read again");
            assert_eq!(again, provider);
        }
        Err(errors) => {
            assert!((1..=ERRORS_MAX).contains(&errors.len()), "{} errors", errors.len());
            for error in errors {
                assert!(error.line.is_none_or(|line| (1..=lines).contains(&line)), "{error}: {lines} lines");
                assert!(!error.message.is_empty() && !error.to_string().contains('\n'), "{error:?}");
            }
        }
    }
});
