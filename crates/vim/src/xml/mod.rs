//! XML, as far as SOAP needs it: what is written is escaped, what is read is bounded.

mod bounds;
mod read;
mod time;
mod write;

pub(crate) use read::{child, children, flag, list, number, parse, text, truth, typed};
pub(crate) use time::moment;
pub(crate) use write::Xml;

/// The namespace that `xsi:type` is in, whatever prefix a server gives it.
pub(crate) const XSI: &str = "http://www.w3.org/2001/XMLSchema-instance";
