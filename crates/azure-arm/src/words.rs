//! Words of Azure: those that are known, and all others as they came.

/// Makes an `enum` of a set of words.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$each:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
        #[serde(from = "String", into = "String")]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$each])* $variant,)+
            /// One that this crate does not know, as Azure has it.
            Other(String),
        }

        impl $name {
            /// As Azure has it.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $word,)+
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                $(if word.eq_ignore_ascii_case($word) {
                    return Self::$variant;
                })+
                Self::Other(word)
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> Self {
                word.as_str().to_owned()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// How far Azure is with a resource. An [`Other`](Self::Other) without letters is a resource that tells none.
    Provisioning {
        /// It is as it was asked for.
        Succeeded = "Succeeded",
        /// It is being made.
        Creating = "Creating",
        /// It is being changed.
        Updating = "Updating",
        /// It is being deleted.
        Deleting = "Deleting",
        /// The last change did not come to its end.
        Failed = "Failed",
        /// The last change was given up.
        Canceled = "Canceled",
    }
}

words! {
    /// The system on a disk that machines start from.
    OsType {
        /// Linux, or what starts like it.
        Linux = "Linux",
        /// Windows.
        Windows = "Windows",
    }
}

words! {
    /// How a disk is started from.
    Generation {
        /// By a BIOS.
        V1 = "V1",
        /// By UEFI.
        V2 = "V2",
    }
}
