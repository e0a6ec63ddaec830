//! The words that options take for the enums of the program's parts.
//!
//! The parts do not know of the command line, so that the words and their help texts are here.

use clap::ValueEnum;
use clap::builder::PossibleValue;

use crate::control_plane::artifact::Copying;
use crate::control_plane::readiness::OwnerCheck;
use crate::data_plane::{AccessForm, Forwarded};
use crate::telemetry::LogFormat;
use crate::user_tokens::WindowsAuth;

/// Implements [`ValueEnum`]: `Variant = "word", "help";`
macro_rules! words {
    ($($type:ty { $($variant:ident = $word:literal, $help:literal;)+ })+) => {$(
        impl ValueEnum for $type {
            fn value_variants<'a>() -> &'a [Self] {
                &[$(Self::$variant),+]
            }

            fn to_possible_value(&self) -> Option<PossibleValue> {
                Some(match self {
                    $(Self::$variant => PossibleValue::new($word).help($help),)+
                })
            }
        }
    )+};
}

words! {
    AccessForm {
        Common = "common", "NCSA's common log format: `host - - [time] \"request\" status bytes`";
        Json = "json", "One JSON object per line";
    }

    Copying {
        Never = "never", "Copy nothing: an artifact runs where it was deployed";
        File = "file", "Copy files; a folder runs where it was deployed";
        Tree = "tree", "Copy files and folders";
    }

    Forwarded {
        Auto = "auto", "Keep the fields of a proxy on this machine, such as IIS, or in \
                        --trusted-proxies, and replace those of any other client";
        Append = "append", "Append the client to X-Forwarded-For, add -Proto and -Host if missing, \
                            and keep the others";
        Keep = "keep", "Pass on the client's fields unchanged";
        Replace = "replace", "Set X-Forwarded-For, -Proto and -Host to what handoff knows, and \
                              remove the others";
    }

    OwnerCheck {
        Require = "require", "The instance is not ready";
        Warn = "warn", "Log a warning, and show it in the status";
        Off = "off", "Do not look up the listening program";
    }

    LogFormat {
        Text = "text", "Text for people";
        Json = "json", "One JSON object per line";
    }

    WindowsAuth {
        Off = "off", "Ignore the tokens, which leaks them";
        Close = "close", "Close the tokens";
        Forward = "forward", "Give the app its own copy of each token";
    }
}

/// Returns the word of a value.
pub(crate) fn word(value: &impl ValueEnum) -> String {
    let value = value.to_possible_value();
    value.map_or_else(String::new, |value| value.get_name().to_owned())
}
