//! A directory as a site: machine descriptions and raw sparse disk files. The default to try, and the reference adapter.
#![forbid(unsafe_code)]
