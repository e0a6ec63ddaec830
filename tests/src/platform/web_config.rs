//! A `web.config` as IIS reads it: `<httpPlatform>` with its schema, and who handles requests.

use std::time::Duration;

use roxmltree::{Document, Node};

/// The module's name, as handlers name it.
const MODULE: &str = "httpPlatformHandler";

/// The edition of the module that reads the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Microsoft's HttpPlatformHandler 1.2.
    V1,
    /// The open one, also called httpbridge: no `startupRetryCount`, whole seconds.
    V2,
}

/// `<httpPlatform>`, defaults filled in, nothing expanded yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebConfig {
    /// The program to start.
    pub process_path: String,
    /// Its command line, as one text.
    pub arguments: String,
    /// Maximum time until the port listens.
    pub startup_time_limit: Duration,
    /// Number of further tries when it does not.
    pub startup_retry_count: u32,
    /// More ends in a minute, and nothing is started for the rest of it.
    pub rapid_fails_per_minute: u32,
    /// Maximum time for a request without a byte moving.
    pub request_timeout: Duration,
    /// Processes that take turns.
    pub processes_per_application: u32,
    /// True if every request brings a handle that the process has to close.
    pub forward_windows_auth_token: bool,
    /// Path for its output, if there is one.
    pub stdout_log_file: Option<String>,
    /// Variables, in the file's order.
    pub environment: Vec<(String, String)>,
    /// Files whose change ends the process.
    pub recycle_on_file_change: Vec<String>,
}

/// A fault that IIS answers with a 500.19.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebConfigError {
    /// Text that is no XML.
    #[error("web.config is not well-formed: {0}")]
    Xml(#[from] roxmltree::Error),
    /// An element that has to be there.
    #[error("web.config has no <{0}>")]
    Missing(&'static str),
    /// Nothing leads requests to the module.
    #[error(
        "no handler leads every request to {MODULE}: expected <add name=… path=\"*\" verb=\"*\" \
         modules=\"{MODULE}\" resourceType=\"Unspecified\" /> in <handlers>"
    )]
    NoHandler,
    /// The schema does not know it.
    #[error("unrecognized {what} {name:?} in <{element}>")]
    Unknown {
        /// `attribute` or `element`
        what: &'static str,
        /// Its name.
        name: String,
        /// The element that it is in.
        element: String,
    },
    /// A value that the schema does not allow.
    #[error("{attribute} is {value:?}: expected {expected}")]
    Value {
        /// Its name.
        attribute: &'static str,
        /// The value found.
        value: String,
        /// A description of valid values.
        expected: String,
    },
}

// === impl WebConfig ===

impl WebConfig {
    /// Reads the whole file.
    pub fn parse(text: &str, schema: Schema) -> Result<Self, WebConfigError> {
        let text = text.trim_start_matches('\u{feff}');
        let document = Document::parse(text)?;
        let server = web_server(document.root_element())?;
        let handlers = child(server, "handlers").ok_or(WebConfigError::Missing("handlers"))?;
        if !handled(handlers) {
            return Err(WebConfigError::NoHandler);
        }
        let element = child(server, "httpPlatform");
        Self::of(
            element.ok_or(WebConfigError::Missing("httpPlatform"))?,
            schema,
        )
    }

    fn of(element: Node<'_, '_>, schema: Schema) -> Result<Self, WebConfigError> {
        let mut known = vec![
            "processPath",
            "arguments",
            "startupTimeLimit",
            "rapidFailsPerMinute",
            "requestTimeout",
            "stdoutLogEnabled",
            "stdoutLogFile",
            "processesPerApplication",
            "forwardWindowsAuthToken",
        ];
        let (granularity, forwards_by_default) = match schema {
            Schema::V1 => {
                known.push("startupRetryCount");
                (60, false)
            }
            Schema::V2 => (1, true),
        };
        only_attributes(element, &known)?;
        only_elements(
            element,
            &[
                "environmentVariables",
                "recycleOnFileChange",
                "handlerSettings",
            ],
        )?;
        let process_path = element.attribute("processPath").unwrap_or_default();
        if process_path.trim().is_empty() {
            return Err(value("processPath", process_path, "what to start"));
        }
        let log = boolean(element, "stdoutLogEnabled", false)?;
        let log_file = element.attribute("stdoutLogFile");
        Ok(Self {
            process_path: process_path.to_owned(),
            arguments: element
                .attribute("arguments")
                .unwrap_or_default()
                .to_owned(),
            startup_time_limit: Duration::from_secs(
                number(element, "startupTimeLimit", 120, 0..=3600)?.into(),
            ),
            startup_retry_count: match schema {
                Schema::V1 => number(element, "startupRetryCount", 10, 0..=100)?,
                // In all it tries twice.
                Schema::V2 => 1,
            },
            rapid_fails_per_minute: number(element, "rapidFailsPerMinute", 10, 0..=100)?,
            request_timeout: time_span(element, "requestTimeout", 120, granularity)?,
            processes_per_application: number(element, "processesPerApplication", 1, 1..=100)?,
            forward_windows_auth_token: boolean(
                element,
                "forwardWindowsAuthToken",
                forwards_by_default,
            )?,
            stdout_log_file: log
                .then(|| log_file.unwrap_or(r".\httpplatform-stdout"))
                .map(str::to_owned),
            environment: list(
                element,
                ["environmentVariables", "environmentVariable"],
                |variable| {
                    only_attributes(variable, &["name", "value"])?;
                    let name = variable.attribute("name").unwrap_or_default();
                    if name.is_empty() {
                        return Err(value("name", name, "the name of a variable"));
                    }
                    let text = variable.attribute("value").unwrap_or_default();
                    Ok((name.to_owned(), text.to_owned()))
                },
            )?,
            recycle_on_file_change: list(element, ["recycleOnFileChange", "file"], |file| {
                only_attributes(file, &["path"])?;
                Ok(file.attribute("path").unwrap_or_default().to_owned())
            })?,
        })
    }
}

/// `<system.webServer>`, also within the `<location>` that publishing tools write.
fn web_server<'a, 'input>(root: Node<'a, 'input>) -> Result<Node<'a, 'input>, WebConfigError> {
    let location = child(root, "location");
    child(root, "system.webServer")
        .or_else(|| child(location?, "system.webServer"))
        .ok_or(WebConfigError::Missing("system.webServer"))
}

fn child<'a, 'input>(parent: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    parent.children().find(|node| node.has_tag_name(name))
}

/// Returns whether the module gets every request, also those that look like files.
fn handled(handlers: Node<'_, '_>) -> bool {
    let is = |handler: &Node<'_, '_>, attribute, expected: &str| {
        let value = handler.attribute(attribute).unwrap_or_default();
        value.eq_ignore_ascii_case(expected)
    };
    handlers.children().any(|handler| {
        handler.has_tag_name("add")
            && handler.has_attribute("name")
            && is(&handler, "path", "*")
            && is(&handler, "verb", "*")
            && is(&handler, "modules", MODULE)
            && is(&handler, "resourceType", "Unspecified")
    })
}

fn list<T>(
    element: Node<'_, '_>,
    [list, item]: [&str; 2],
    read: impl Fn(Node<'_, '_>) -> Result<T, WebConfigError>,
) -> Result<Vec<T>, WebConfigError> {
    let Some(list) = child(element, list) else {
        return Ok(Vec::new());
    };
    only_elements(list, &[item])?;
    let items = list.children().filter(Node::is_element);
    items.map(read).collect()
}

fn only_attributes(element: Node<'_, '_>, known: &[&str]) -> Result<(), WebConfigError> {
    let mut names = element.attributes().map(|attribute| attribute.name());
    let unknown = names.find(|name| !known.contains(name));
    unknown.map_or(Ok(()), |name| Err(unrecognized("attribute", name, element)))
}

fn only_elements(element: Node<'_, '_>, known: &[&str]) -> Result<(), WebConfigError> {
    let children = element.children().filter(Node::is_element);
    let mut names = children.map(|child| child.tag_name().name());
    let unknown = names.find(|name| !known.contains(name));
    unknown.map_or(Ok(()), |name| Err(unrecognized("element", name, element)))
}

fn unrecognized(what: &'static str, name: &str, element: Node<'_, '_>) -> WebConfigError {
    WebConfigError::Unknown {
        what,
        name: name.to_owned(),
        element: element.tag_name().name().to_owned(),
    }
}

fn number(
    element: Node<'_, '_>,
    attribute: &'static str,
    default: u32,
    range: std::ops::RangeInclusive<u32>,
) -> Result<u32, WebConfigError> {
    let Some(text) = element.attribute(attribute) else {
        return Ok(default);
    };
    let number = text.parse().ok().filter(|number| range.contains(number));
    let expected = format!("a number from {} to {}", range.start(), range.end());
    number.ok_or_else(|| value(attribute, text, expected))
}

fn boolean(
    element: Node<'_, '_>,
    attribute: &'static str,
    default: bool,
) -> Result<bool, WebConfigError> {
    match element.attribute(attribute) {
        None => Ok(default),
        Some(text) if text.eq_ignore_ascii_case("true") => Ok(true),
        Some(text) if text.eq_ignore_ascii_case("false") => Ok(false),
        Some(text) => Err(value(attribute, text, "true or false")),
    }
}

/// `[days.]hours:minutes:seconds`, at most thirty days.
fn time_span(
    element: Node<'_, '_>,
    attribute: &'static str,
    default: u64,
    granularity: u64,
) -> Result<Duration, WebConfigError> {
    let Some(text) = element.attribute(attribute) else {
        return Ok(Duration::from_secs(default));
    };
    let expected = || {
        format!(
            "hours:minutes:seconds, a multiple of {granularity} s and at most thirty days, such \
             as 00:04:00"
        )
    };
    let seconds = seconds(text)
        .filter(|seconds| *seconds <= 2_592_000 && seconds.is_multiple_of(granularity));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| value(attribute, text, expected()))
}

fn seconds(text: &str) -> Option<u64> {
    let (days, time) = match text.split_once('.') {
        Some((days, time)) => (u64::from(days.parse::<u16>().ok()?), time),
        None => (0, text),
    };
    let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (parts.next()??, parts.next()??, parts.next()??);
    let is_time = parts.next().is_none() && hours < 24 && minutes < 60 && seconds < 60;
    is_time.then_some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}

fn value(attribute: &'static str, value: &str, expected: impl Into<String>) -> WebConfigError {
    WebConfigError::Value {
        attribute,
        value: value.to_owned(),
        expected: expected.into(),
    }
}
