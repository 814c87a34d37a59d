//! What the cross-crate tests share.
#![forbid(unsafe_code)]

/// The snippets of the pages for people, compiled and run.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/guide.md")]
    struct Guide;
    #[doc = include_str!("../docs/adapter-guide.md")]
    struct AdapterGuide;
}
