//! The simulator reads a `web.config`, variables and command lines as the platform does.

use std::time::{Duration, Instant};

use tests::platform::{
    Environment, RapidFails, Schema, TOP_LEVEL, WebConfig, WebConfigError, split,
};

const HANDLER: &str = r#"<add name="httpPlatformHandler" path="*" verb="*"
    modules="httpPlatformHandler" resourceType="Unspecified" />"#;

fn parse(attributes: &str, children: &str) -> Result<WebConfig, WebConfigError> {
    let text = format!(
        "<configuration><system.webServer><handlers>{HANDLER}</handlers>\
         <httpPlatform {attributes}>{children}</httpPlatform>\
         </system.webServer></configuration>"
    );
    WebConfig::parse(&text, Schema::V1)
}

#[test]
fn the_top_level_web_config_is_valid_and_leaves_no_default_to_chance() {
    let config = WebConfig::parse(TOP_LEVEL, Schema::V1).unwrap();
    assert!(config.process_path.ends_with("handoff.exe"), "{config:?}");
    assert!(!config.forward_windows_auth_token);
    for attribute in [
        "startupTimeLimit",
        "startupRetryCount",
        "rapidFailsPerMinute",
        "requestTimeout",
        "processesPerApplication",
        "forwardWindowsAuthToken",
        "stdoutLogEnabled",
        "stdoutLogFile",
    ] {
        assert!(
            TOP_LEVEL.contains(&format!(" {attribute}=\"")),
            "{attribute}"
        );
    }
}

#[test]
fn the_top_level_web_config_leaves_no_request_to_the_filters_of_iis() {
    for said in [
        r#"allowDoubleEscaping="true""#,
        r#"maxAllowedContentLength="4294967295""#,
        // As long as --max-target allows.
        r#"maxUrl="16384" maxQueryString="16384""#,
        r#"<remove segment="bin" />"#,
    ] {
        assert!(TOP_LEVEL.contains(said), "{said}");
    }
}

#[test]
fn the_top_level_web_config_suits_version_two_without_one_attribute() {
    let error = WebConfig::parse(TOP_LEVEL, Schema::V2).unwrap_err();
    let message = r#"unrecognized attribute "startupRetryCount" in <httpPlatform>"#;
    assert_eq!(error.to_string(), message);
    let without = TOP_LEVEL.replace("startupRetryCount=\"3\"", "");
    WebConfig::parse(&without, Schema::V2).unwrap();
}

#[test]
fn what_is_not_said_is_as_in_version_1_2() {
    let config = parse(r#"processPath="app.exe""#, "").unwrap();
    let expected = WebConfig {
        process_path: "app.exe".to_owned(),
        arguments: String::new(),
        startup_time_limit: Duration::from_secs(120),
        startup_retry_count: 10,
        rapid_fails_per_minute: 10,
        request_timeout: Duration::from_secs(120),
        processes_per_application: 1,
        forward_windows_auth_token: false,
        stdout_log_file: None,
        environment: Vec::new(),
        recycle_on_file_change: Vec::new(),
    };
    assert_eq!(config, expected);
    let logged = parse(r#"processPath="app" stdoutLogEnabled="true""#, "").unwrap();
    assert_eq!(
        logged.stdout_log_file.as_deref(),
        Some(r".\httpplatform-stdout")
    );
}

#[test]
fn a_value_that_the_schema_refuses_is_named() {
    for (attribute, value) in [
        ("startupTimeLimit", "3601"),
        ("startupRetryCount", "101"),
        ("rapidFailsPerMinute", "-1"),
        ("processesPerApplication", "0"),
        ("requestTimeout", "00:01:30"),
        ("requestTimeout", "31.00:00:00"),
        ("requestTimeout", "4 minutes"),
        ("stdoutLogEnabled", "yes"),
    ] {
        let attributes = format!("processPath=\"app\" {attribute}=\"{value}\"");
        let message = parse(&attributes, "").unwrap_err().to_string();
        let start = format!("{attribute} is {value:?}: expected ");
        assert!(message.starts_with(&start), "{message}");
    }
    let message = parse("", "").unwrap_err().to_string();
    assert_eq!(message, r#"processPath is "": expected what to start"#);
}

#[test]
fn an_unknown_name_is_refused() {
    let message = parse(r#"processPath="app" shutdownTimeLimit="10""#, "");
    let message = message.unwrap_err().to_string();
    let expected = r#"unrecognized attribute "shutdownTimeLimit" in <httpPlatform>"#;
    assert_eq!(message, expected);
    let message = parse(r#"processPath="app""#, "<environment />").unwrap_err();
    let expected = r#"unrecognized element "environment" in <httpPlatform>"#;
    assert_eq!(message.to_string(), expected);
}

#[test]
fn lists_are_read_in_order() {
    let config = parse(
        r#"processPath="app" requestTimeout="1.02:03:00""#,
        r#"<environmentVariables>
             <environmentVariable name="B" value="1" /><environmentVariable name="A" value="" />
           </environmentVariables>
           <recycleOnFileChange><file path=".\a.txt" /></recycleOnFileChange>"#,
    );
    let config = config.unwrap();
    let pairs = [("B", "1"), ("A", "")].map(|(name, value)| (name.into(), value.into()));
    assert_eq!(config.environment, pairs);
    assert_eq!(config.recycle_on_file_change, [r".\a.txt"]);
    let minutes = (24 + 2) * 60 + 3;
    assert_eq!(config.request_timeout, Duration::from_secs(minutes * 60));
}

#[test]
fn requests_have_to_be_led_to_the_module() {
    let without = TOP_LEVEL.replace("path=\"*\"", "path=\"*.exe\"");
    let error = WebConfig::parse(&without, Schema::V1).unwrap_err();
    assert_eq!(error, WebConfigError::NoHandler);
    let location = TOP_LEVEL
        .replace("<configuration>", "<configuration><location path=\".\">")
        .replace("</configuration>", "</location></configuration>");
    WebConfig::parse(&location, Schema::V1).unwrap();
    for (text, error) in [
        ("<configuration />", "web.config has no <system.webServer>"),
        (
            "<configuration><system.webServer /></configuration>",
            "web.config has no <handlers>",
        ),
    ] {
        let found = WebConfig::parse(text, Schema::V1).unwrap_err();
        assert_eq!(found.to_string(), error);
    }
    let broken = WebConfig::parse("<configuration>", Schema::V1).unwrap_err();
    assert!(
        broken
            .to_string()
            .starts_with("web.config is not well-formed")
    );
}

#[test]
fn known_variables_are_expanded_and_others_stay() {
    let mut environment = Environment::default();
    environment.set("Home", r"C:\home");
    environment.set("HOME", r"D:\home");
    environment.set("P", "100%");
    assert_eq!(environment.iter().count(), 2);
    for (text, expected) in [
        (r"%home%\site", r"D:\home\site"),
        ("%HTTP_PLATFORM_PORT%", "%HTTP_PLATFORM_PORT%"),
        ("50% of %P%%", "50% of 100%%"),
        ("%%HOME%", r"%D:\home"),
        ("%", "%"),
    ] {
        assert_eq!(environment.expand(text), expected);
    }
}

#[test]
fn a_command_line_is_split_as_windows_programs_do() {
    for (line, expected) in [
        ("", &[][..]),
        ("  a  b ", &["a", "b"]),
        (r#""a b" c"#, &["a b", "c"]),
        (r#"a"b c"d"#, &["ab cd"]),
        (r#""" x"#, &["", "x"]),
        (r#""C:\x\\" y"#, &[r"C:\x\", "y"]),
        (r#"C:\a\b \\s"#, &[r"C:\a\b", r"\\s"]),
        (r#"a\"b \\\"c"#, &["a\"b", "\\\"c"]),
        (r#""he said ""hi""""#, &["he said \"hi\""]),
        (r"a\", &[r"a\"]),
    ] {
        assert_eq!(split(line), expected, "{line}");
    }
}

#[test]
fn rapid_fails_count_within_a_minute() {
    let start = Instant::now();
    let at = |seconds| start + Duration::from_secs(seconds);
    let mut fails = RapidFails::default();
    fails.record(at(0));
    fails.record(at(10));
    assert!(!fails.is_exceeded(at(11), 2));
    assert!(fails.is_exceeded(at(11), 1));
    assert!(fails.is_exceeded(at(59), 1));
    assert!(
        !fails.is_exceeded(at(60), 0),
        "a new minute begins at nought"
    );
    fails.record(at(70));
    assert!(fails.is_exceeded(at(129), 0));
    assert!(!fails.is_exceeded(at(130), 0));
}
