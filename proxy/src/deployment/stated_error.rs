//! The error that a program's last output names, whatever its language, and the output's end.
//!
//! A stack trace is longer than a screen, and its message is at the top (Ruby, Java, Node, .NET, Go)
//! or at the bottom (Python). Pure.

/// Maximum length of the result in characters.
const MAX_LENGTH: usize = 400;
/// Number of lines around the message in which its place in the code is searched for.
const NEARBY: usize = 60;
/// Beginning of the error that has led to the one above it, in Node.
const NODE_CAUSE: &str = "[cause]: ";
/// Parts of the names of files that belong to a runtime or a library.
const LIBRARIES: [&str; 12] = [
    "(<anonymous>)",
    "<internal:",
    "<frozen ",
    "node:",
    "node_modules",
    "/lib/python",
    "/lib/ruby",
    "/gems/",
    "java.base/",
    "jdk.",
    "org.springframework",
    "/rustc/",
];

/// Returns the error that these lines name, with its place in the code.
pub fn stated_error(output: &[impl AsRef<str>]) -> Option<String> {
    let line = |number: usize| output[number].as_ref();
    let all = 0..output.len();
    let named = all.clone().rev().find(|&number| names_error(line(number)));
    let python = all
        .rev()
        .find(|&number| line(number).starts_with("Traceback (most recent"));
    let python = python.and_then(|begin| {
        let mut frames = begin + 1..output.len();
        frames.find(|&number| !line(number).starts_with([' ', '\t']))
    });
    let at = named.max(python)?;
    let mut text = line(at).trim().to_owned();
    if text.starts_with(NODE_CAUSE) {
        let outer = (0..at).rev().map(line).map(str::trim);
        let mut outer = outer.filter(|line| names_error(line) && !line.starts_with(NODE_CAUSE));
        if let Some(outer) = outer.next() {
            text = format!("{outer} {text}");
        }
    }
    if text.contains(" panicked at ")
        && let Some(message) = output.get(at + 1)
    {
        text = format!("{text} {}", message.as_ref().trim());
    } else if !states_place(&text) {
        let after = output[at + 1..].iter().take(NEARBY);
        let before = output[..at].iter().rev().take(NEARBY);
        let before = before.map(|line| line.as_ref().trim());
        let frame = best(after.map(|line| line.as_ref().trim()).filter(is_frame))
            .or_else(|| best(before.filter(|line| line.starts_with("File \""))));
        if let Some(frame) = frame {
            text = format!("{text}, {}", frame.trim_end_matches(" {"));
        }
    }
    let end = text.char_indices().nth(MAX_LENGTH);
    if let Some((end, _)) = end {
        text.truncate(end);
        text.push('…');
    }
    Some(text)
}

/// Returns the last lines, at most this number of lines and of bytes.
pub fn last_lines<T: AsRef<str>>(output: &[T], lines: usize, bytes: usize) -> &[T] {
    let mut left = bytes;
    let fits = |line: &&T| {
        let length = line.as_ref().len();
        let has_room = length <= left;
        left = left.saturating_sub(length);
        has_room
    };
    let kept = output.iter().rev().take(lines).take_while(fits).count();
    &output[output.len() - kept..]
}

/// Returns true if a line has the name of an error class in front of a message, or states one in
/// another way.
fn names_error(line: &str) -> bool {
    let is_class = |(end, found): (usize, &str)| {
        let rest = &line[end + found.len()..];
        rest.starts_with(": ") || rest.starts_with(" [") || rest.starts_with(')')
    };
    line.starts_with("panic: ")
        || line.starts_with("fatal error: ")
        || line.contains(" panicked at ")
        || line.match_indices("Error").any(is_class)
        || line.match_indices("Exception").any(is_class)
}

/// Returns true if the message itself begins with a place in the app, as Ruby's does.
fn states_place(text: &str) -> bool {
    let has_place = text.contains(": in ") || text.contains(":in ");
    has_place && !text.starts_with("<internal:")
}

/// Returns true for a line of a stack trace below its message.
fn is_frame(line: &&str) -> bool {
    line.starts_with("at ") || line.starts_with("from ") || line.starts_with('/')
}

/// Returns the first frame of the app itself, or else the first one.
fn best<'a>(mut frames: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let first = frames.next()?;
    let is_own = |frame: &&str| !LIBRARIES.iter().any(|library| frame.contains(library));
    Some(
        [first]
            .into_iter()
            .chain(frames)
            .find(is_own)
            .unwrap_or(first),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(output: &str) -> String {
        let lines: Vec<&str> = output.lines().collect();
        stated_error(&lines).unwrap_or_default()
    }

    #[test]
    fn python_names_its_error_last_and_the_place_before() {
        let output = "Traceback (most recent call last):
  File \"/site/app.py\", line 3, in <module>
    import shop
  File \"/usr/lib/python3/x.py\", line 9, in <module>
    raise ImproperlyConfigured('no key')
django.core.exceptions.ImproperlyConfigured: no key
bye";
        assert_eq!(
            error(output),
            "django.core.exceptions.ImproperlyConfigured: no key, File \"/site/app.py\", line 3, in \
             <module>"
        );
    }

    #[test]
    fn node_names_its_error_first() {
        let output = "node:internal/modules/cjs/loader:1143
  throw err;
  ^

Error: Cannot find module 'shop'
Require stack:
- /site/server.js
    at Module._resolveFilename (node:internal/modules/cjs/loader:1140:15)
    at Object.<anonymous> (/site/server.js:3:11) {
  code: 'MODULE_NOT_FOUND',
  requireStack: [ '/site/server.js' ]
}

Node.js v20.19.0";
        assert_eq!(
            error(output),
            "Error: Cannot find module 'shop', at Object.<anonymous> (/site/server.js:3:11)"
        );
    }

    #[test]
    fn node_names_the_cause_of_its_error_below_it() {
        let output = "/site/app.js:3
    throw new DatabaseError('cannot read database.json', { cause });
    ^

DatabaseError: cannot read database.json
    at connect (/site/app.js:3:105) {
  code: 'ECONNREFUSED',
  [cause]: SyntaxError: Unexpected end of JSON input
      at JSON.parse (<anonymous>)
      at connect (/site/app.js:3:68)
}";
        assert_eq!(
            error(output),
            "DatabaseError: cannot read database.json [cause]: SyntaxError: Unexpected end of JSON \
             input, at connect (/site/app.js:3:68)"
        );
    }

    #[test]
    fn java_names_the_root_of_its_error_last() {
        let output = "Exception in thread \"main\" java.lang.IllegalStateException: no start
\tat App.main(App.java:5)
Caused by: java.io.FileNotFoundException: shop.yml (No such file or directory)
\tat java.base/java.io.FileInputStream.open0(Native Method)
\tat App.read(App.java:9)
\t... 1 more";
        assert_eq!(
            error(output),
            "Caused by: java.io.FileNotFoundException: shop.yml (No such file or directory), at \
             App.read(App.java:9)"
        );
    }

    #[test]
    fn ruby_names_its_error_with_its_place_above_a_long_trace() {
        let frames = "\tfrom /usr/lib/ruby/gems/3.1.0/rack.rb:1:in `call'\n".repeat(50);
        let own = "/site/config.ru:5:in `block': undefined method `no' for nil (NoMethodError)";
        assert_eq!(error(&format!("{own}\n{frames}")), own);
        let load = "<internal:/usr/lib/ruby/require.rb>:85:in `require': cannot load such file -- x \
                    (LoadError)";
        let place = "from /site/config.ru:1:in `<main>'";
        let output = format!("{load}\n{frames}\t{place}\n");
        assert_eq!(error(&output), format!("{load}, {place}"));
    }

    #[test]
    fn other_languages_name_theirs_too() {
        for (output, named) in [
            (
                "panic: no shop\n\ngoroutine 1 [running]:\nmain.main()\n\t/site/main.go:8 +0x1d",
                "panic: no shop, /site/main.go:8 +0x1d",
            ),
            (
                "thread 'main' panicked at src/main.rs:2:5:\nno shop\nnote: run with",
                "thread 'main' panicked at src/main.rs:2:5: no shop",
            ),
            (
                "Unhandled exception. System.InvalidOperationException: no shop\n   at Program.Main()",
                "Unhandled exception. System.InvalidOperationException: no shop, at Program.Main()",
            ),
        ] {
            assert_eq!(error(output), named);
        }
    }

    #[test]
    fn what_names_no_error_has_none() {
        for output in ["", "ERROR it is bad\nErrors: 0", "error: no", "at home"] {
            assert_eq!(error(output), "", "{output}");
        }
        assert_eq!(
            error(&format!("Error: {}", "é".repeat(999)))
                .chars()
                .count(),
            401
        );
    }

    #[test]
    fn the_last_lines_are_bounded_in_number_and_bytes() {
        let lines = ["aaaa", "bb", "cc"];
        assert_eq!(last_lines(&lines, 2, 99), ["bb", "cc"]);
        assert_eq!(last_lines(&lines, 9, 5), ["bb", "cc"]);
        assert_eq!(last_lines(&lines, 9, 1), [""; 0]);
    }
}
