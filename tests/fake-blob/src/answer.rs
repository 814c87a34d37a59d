//! What is sent back.

use crate::faults::LONGEST;
use crate::image::Image;
use crate::xml;
use axum::body::Body;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt};
use hyper::header::{HeaderName, HeaderValue};
use hyper::{Method, Response, StatusCode};
use std::ops::Range;
use tokio::sync::watch;
use tokio::time::timeout;

/// How much of an image is read at a time.
const PIECE: u64 = 1 << 20;

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    body: Payload,
}

#[derive(Debug)]
enum Payload {
    Bytes(Bytes),
    Image(Image, Range<u64>),
}

impl Answer {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: vec![], body: Payload::Bytes(Bytes::new()) }
    }

    pub(crate) fn xml(body: &str) -> Self {
        let text = format!("<?xml version=\"1.0\" encoding=\"utf-8\"?>{body}");
        Self::new(200).with("Content-Type", "application/xml").bytes(text.into())
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.headers.push((name.to_owned(), value.to_string()));
        self
    }

    #[must_use]
    pub(crate) fn with_all(mut self, headers: Vec<(String, String)>) -> Self {
        self.headers.extend(headers);
        self
    }

    #[must_use]
    pub(crate) fn bytes(mut self, bytes: Bytes) -> Self {
        self.body = Payload::Bytes(bytes);
        self
    }

    #[must_use]
    pub(crate) fn image(mut self, image: Image, range: Range<u64>) -> Self {
        self.body = Payload::Image(image, range);
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own == name).map(|(_, value)| value.as_str())
    }

    /// Of the body, in bytes.
    pub(crate) fn len(&self) -> u64 {
        match &self.body {
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Image(_, range) => range.end - range.start,
        }
    }

    /// With `cut`, the connection breaks after so many bytes of the body.
    pub(crate) fn send(self, method: &Method, cut: Option<Cut>) -> Response<Body> {
        let len = self.len();
        let mut response = Response::new(Body::empty());
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        for (name, value) in self.headers {
            if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
                headers.append(name, value);
            }
        }
        if !headers.contains_key("content-length") && !matches!(self.status, 204 | 304) {
            headers.insert("content-length", HeaderValue::from(len));
        }
        if method == Method::HEAD || len == 0 {
            return response;
        }
        let end = cut.as_ref().map_or(len, |cut| cut.after.min(len));
        let pieces = match self.body {
            Payload::Bytes(bytes) if cut.is_none() => {
                *response.body_mut() = Body::from(bytes);
                return response;
            }
            Payload::Bytes(bytes) => stream::iter([Ok(bytes.slice(..end as usize))]).left_stream(),
            Payload::Image(image, range) => {
                let end = range.start + end;
                let starts = (range.start..end).step_by(PIECE as usize);
                let read = move |at| Ok(Bytes::from(image.read(at, (end - at).min(PIECE))));
                stream::iter(starts.map(read)).right_stream()
            }
        };
        *response.body_mut() = match cut {
            None => Body::from_stream(pieces),
            Some(cut) => Body::from_stream(pieces.chain(stream::once(cut.fall()))),
        };
        response
    }
}

/// Where the connection breaks.
#[derive(Debug)]
pub(crate) struct Cut {
    pub(crate) after: u64,
    /// Told when all so far is on its way.
    pub(crate) flushed: watch::Receiver<()>,
}

impl Cut {
    async fn fall(mut self) -> Result<Bytes, std::io::Error> {
        self.flushed.mark_unchanged();
        let _ = timeout(LONGEST, self.flushed.changed()).await;
        Err(std::io::Error::other("cut by a fault"))
    }
}

/// An error answer of Azure.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) status: u16,
    pub(crate) code: String,
    message: String,
    headers: Vec<(String, String)>,
    detail: Option<String>,
}

impl Refused {
    pub(crate) fn new(status: u16, code: &str, message: &str) -> Self {
        Self { status, code: code.to_owned(), message: message.to_owned(), headers: vec![], detail: None }
    }

    pub(crate) fn missing_header(name: &str) -> Self {
        let mut refused = Self::new(
            400,
            "MissingRequiredHeader",
            "An HTTP header that's mandatory for this request is not specified.",
        );
        refused.detail = Some(format!("<HeaderName>{name}</HeaderName>"));
        refused
    }

    pub(crate) fn bad_header(name: &str) -> Self {
        let mut refused = Self::new(
            400,
            "InvalidHeaderValue",
            "The value for one of the HTTP headers is not in the correct format.",
        );
        refused.detail = Some(format!("<HeaderName>{name}</HeaderName>"));
        refused
    }

    pub(crate) fn bad_query(name: &str) -> Self {
        let mut refused = Self::new(
            400,
            "InvalidQueryParameterValue",
            "Value for one of the query parameters specified in the request URI is invalid.",
        );
        refused.detail = Some(format!("<QueryParameterName>{name}</QueryParameterName>"));
        refused
    }

    pub(crate) fn not_faked(what: &str) -> Self {
        Self::new(501, "NotFaked", &format!("{what} is no part of this fake."))
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    #[must_use]
    pub(crate) fn detail(mut self, text: &str) -> Self {
        self.detail =
            Some(format!("<AuthenticationErrorDetail>{}</AuthenticationErrorDetail>", xml::text(text)));
        self
    }

    pub(crate) fn answer(self) -> Answer {
        if self.status == 304 {
            return Answer::new(304).with_all(self.headers);
        }
        let body = format!(
            "<Error><Code>{}</Code><Message>{}</Message>{}</Error>",
            xml::text(&self.code),
            xml::text(&self.message),
            self.detail.unwrap_or_default()
        );
        let mut answer = Answer::xml(&body).with("x-ms-error-code", &self.code).with_all(self.headers);
        answer.status = self.status;
        answer
    }
}
