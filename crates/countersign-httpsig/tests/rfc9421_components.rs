//! The examples of RFC 9421, section 2: values of components.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken example ends the test")]

use countersign_httpsig::{
    BaseError, Component, FieldType, FieldTypes, FormError, Message, Request, Response, SignatureInput,
    Target, component_value, signature_base,
};
use http::{HeaderMap, HeaderName, HeaderValue};

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    fields
}

fn request<'a>(method: &'a str, target: Target<'a>, fields: &'a HeaderMap) -> Message<'a> {
    Message::Request(Request { method, target, fields, trailers: None })
}

fn value(component: &str, message: &Message<'_>) -> Result<String, BaseError> {
    component_value(&component.parse()?, message, &FieldTypes::standard())
}

const EXAMPLE: Target<'static> = Target::origin("https", "www.example.com", "/", None);

#[test]
fn section_2_1_fields() {
    let fields = fields(&[
        ("host", "www.example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:56 GMT"),
        ("x-ows-header", "   Leading and trailing whitespace.   "),
        ("cache-control", "max-age=60"),
        ("cache-control", "    must-revalidate"),
        ("example-dict", "a=1,    b=2;x=1;y=2,   c=(a   b   c)"),
        ("x-empty-header", ""),
    ]);
    let message = request("GET", EXAMPLE, &fields);
    for (name, expected) in [
        ("host", "www.example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:56 GMT"),
        ("x-ows-header", "Leading and trailing whitespace."),
        ("cache-control", "max-age=60, must-revalidate"),
        ("example-dict", "a=1,    b=2;x=1;y=2,   c=(a   b   c)"),
        ("x-empty-header", ""),
    ] {
        assert_eq!(value(&format!("\"{name}\""), &message).unwrap(), expected);
    }
    assert_eq!(value("\"x-not-there\"", &message), Err(BaseError::Missing));
}

#[test]
fn section_2_1_1_structured_fields() {
    let fields = fields(&[("example-dict", " a=1,    b=2;x=1;y=2,   c=(a   b   c)")]);
    let message = request("GET", EXAMPLE, &fields);
    let types = FieldTypes::standard().with(HeaderName::from_static("example-dict"), FieldType::Dictionary);
    let component: Component = "\"example-dict\";sf".parse().unwrap();
    assert_eq!(component_value(&component, &message, &types).unwrap(), "a=1, b=2;x=1;y=2, c=(a b c)");
    let unknown = component_value(&component, &message, &FieldTypes::standard());
    assert_eq!(unknown, Err(BaseError::UnknownField));
}

#[test]
fn section_2_1_2_members_of_dictionaries() {
    let fields = fields(&[("example-dict", " a=1, b=2;x=1;y=2, c=(a   b    c), d")]);
    let message = request("GET", EXAMPLE, &fields);
    for (key, expected) in [("a", "1"), ("d", "?1"), ("b", "2;x=1;y=2"), ("c", "(a b c)")] {
        assert_eq!(value(&format!("\"example-dict\";key=\"{key}\""), &message).unwrap(), expected);
    }
    assert_eq!(value("\"example-dict\";key=\"e\"", &message), Err(BaseError::Missing));
}

#[test]
fn section_2_1_3_binary_wrapped_fields() {
    let two = fields(&[("example-header", "value, with, lots"), ("example-header", "of, commas")]);
    let one = fields(&[("example-header", "value, with, lots, of, commas")]);
    let bytes = |fields| value("\"example-header\";bs", &request("GET", EXAMPLE, fields)).unwrap();
    assert_eq!(bytes(&two), ":dmFsdWUsIHdpdGgsIGxvdHM=:, :b2YsIGNvbW1hcw==:");
    assert_eq!(bytes(&one), ":dmFsdWUsIHdpdGgsIGxvdHMsIG9mLCBjb21tYXM=:");
    let plain = |fields| value("\"example-header\"", &request("GET", EXAMPLE, fields)).unwrap();
    assert_eq!(plain(&two), plain(&one), "without `bs` they cannot be told apart");
}

#[test]
fn section_2_1_4_trailers() {
    let headers = fields(&[("trailer", "Expires")]);
    let trailers = fields(&[("expires", "Wed, 9 Nov 2022 07:28:00 GMT")]);
    let response =
        |trailers| Message::Response(Response { status: 200, fields: &headers, trailers, request: None });
    let expires = value("\"expires\";tr", &response(Some(&trailers)));
    assert_eq!(expires.unwrap(), "Wed, 9 Nov 2022 07:28:00 GMT");
    assert_eq!(value("\"expires\"", &response(Some(&trailers))), Err(BaseError::Missing));
    assert_eq!(value("\"expires\";tr", &response(None)), Err(BaseError::Missing));
}

#[test]
fn section_2_2_derived_components() {
    let none = HeaderMap::new();
    let get = |target| request("GET", target, &none);
    let path = Target::origin("https", "www.example.com", "/path", Some("param=value"));
    let post = request("POST", path, &none);
    assert_eq!(value("\"@method\"", &post).unwrap(), "POST");
    assert_eq!(value("\"@target-uri\"", &post).unwrap(), "https://www.example.com/path?param=value");
    assert_eq!(value("\"@authority\"", &post).unwrap(), "www.example.com");
    assert_eq!(value("\"@path\"", &post).unwrap(), "/path");
    let plain = Target::origin("http", "www.example.com", "/path", Some("param=value"));
    assert_eq!(value("\"@scheme\"", &get(plain)).unwrap(), "http");

    let query = |query| value("\"@query\"", &get(Target { query, ..path })).unwrap();
    assert_eq!(query(Some("param=value&foo=bar&baz=bat%2Dman")), "?param=value&foo=bar&baz=bat%2Dman");
    assert_eq!(query(Some("queryString")), "?queryString");
    assert_eq!(query(Some("")), "?");
    assert_eq!(query(None), "?");
    assert_eq!(value("\"@path\"", &get(Target { path: "", ..path })).unwrap(), "/");

    let line =
        |request_target| value("\"@request-target\"", &get(Target { request_target, ..path })).unwrap();
    assert_eq!(line(None), "/path?param=value");
    for form in ["https://www.example.com/path?param=value", "www.example.com:80", "*"] {
        assert_eq!(line(Some(form)), form);
    }
}

#[test]
fn section_2_2_8_query_parameters() {
    let none = HeaderMap::new();
    let with = |query: &'static str| {
        request("GET", Target::origin("https", "www.example.com", "/path", Some(query)), &none)
    };
    let simple = with("param=value&foo=bar&baz=batman&qux=");
    for (name, expected) in [("baz", "batman"), ("qux", ""), ("param", "value")] {
        assert_eq!(value(&format!("\"@query-param\";name=\"{name}\""), &simple).unwrap(), expected);
    }
    let encoded = with(
        "var=this%20is%20a%20big%0Amultiline%20value&bar=with+plus+whitespace&fa%C3%A7ade%22%3A%20=something",
    );
    for (name, expected) in [
        ("var", "this%20is%20a%20big%0Amultiline%20value"),
        ("bar", "with%20plus%20whitespace"),
        ("fa%C3%A7ade%22%3A%20", "something"),
    ] {
        assert_eq!(value(&format!("\"@query-param\";name=\"{name}\""), &encoded).unwrap(), expected);
    }
    assert_eq!(
        Component::query_param("façade\": ").to_string(),
        "\"@query-param\";name=\"fa%C3%A7ade%22%3A%20\""
    );
    let twice = with("a=1&a=2");
    assert_eq!(value("\"@query-param\";name=\"a\"", &twice), Err(BaseError::Repeated));
    assert_eq!(value("\"@query-param\";name=\"b\"", &twice), Err(BaseError::Missing));
}

#[test]
fn section_2_2_9_status_is_of_responses_only() {
    let none = HeaderMap::new();
    let response =
        |status| Message::Response(Response { status, fields: &none, trailers: None, request: None });
    assert_eq!(value("\"@status\"", &response(200)).unwrap(), "200");
    assert_eq!(value("\"@status\"", &request("GET", EXAMPLE, &none)), Err(BaseError::OtherMessage));
    assert_eq!(value("\"@method\"", &response(200)), Err(BaseError::OtherMessage));
    assert_eq!(value("\"@method\";req", &response(200)), Err(BaseError::OtherMessage));
    assert_eq!(value("\"@method\";req", &request("GET", EXAMPLE, &none)), Err(BaseError::OtherMessage));
}

#[test]
fn section_2_4_a_response_bound_to_its_request() {
    let asked = fields(&[
        ("host", "example.com"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
        ("content-type", "application/json"),
        (
            "signature-input",
            "sig1=(\"@method\" \"@authority\" \"@path\" \"content-digest\" \"content-type\" \"content-length\");created=1618884475;keyid=\"test-key-rsa-pss\"",
        ),
        (
            "signature",
            "sig1=:LAH8BjcfcOcLojiuOBFWn0P5keD3xAOuJRGziCLuD8r5MW9S0RoXXLzLSRfGY/3SF8kVIkHjE13SEFdTo4Af/fJ/Pu9wheqoLVdwXyY/UkBIS1M8Brc8IODsn5DFIrG0IrburbLi0uCc+E2ZIIb6HbUJ+o+jP58JelMTe0QE3IpWINTEzpxjqDf5/Df+InHCAkQCTuKsamjWXUpyOT1Wkxi7YPVNOjW4MfNuTZ9HdbD2Tr65+BXeTG9ZS/9SWuXAc+BZ8WyPz0QRz//ec3uWXd7bYYODSjRAxHqX+S1ag3LZElYyUKaAIjZ8MGOt4gXEwCSLDv/zqxZeWLj/PDkn6w==:",
        ),
    ]);
    let answer = fields(&[
        ("content-type", "application/json"),
        ("content-length", "62"),
        (
            "content-digest",
            "sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:",
        ),
    ]);
    let request = Request {
        method: "POST",
        target: Target::origin("https", "example.com", "/foo", Some("param=Value&Pet=dog")),
        fields: &asked,
        trailers: None,
    };
    let message =
        Message::Response(Response { status: 503, fields: &answer, trailers: None, request: Some(request) });
    let components = [
        "\"@status\"",
        "\"content-digest\"",
        "\"content-type\"",
        "\"@authority\";req",
        "\"@method\";req",
        "\"@path\";req",
        "\"content-digest\";req",
    ];
    let input = SignatureInput::new(components.map(|text| text.parse().unwrap())).unwrap();
    let input = input.created(1_618_884_479).unwrap().keyid("test-key-ecc-p256").unwrap();
    let base = signature_base(&message, &input, &FieldTypes::standard()).unwrap();
    assert_eq!(
        base,
        "\"@status\": 503\n\
         \"content-digest\": sha-512=:0Y6iCBzGg5rZtoXS95Ijz03mslf6KAMCloESHObfwnHJDbkkWWQz6PhhU9kxsTbARtY2PTBOzq24uJFpHsMuAg==:\n\
         \"content-type\": application/json\n\
         \"@authority\";req: example.com\n\
         \"@method\";req: POST\n\
         \"@path\";req: /foo\n\
         \"content-digest\";req: sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:\n\
         \"@signature-params\": (\"@status\" \"content-digest\" \"content-type\" \"@authority\";req \"@method\";req \"@path\";req \"content-digest\";req);created=1618884479;keyid=\"test-key-ecc-p256\""
    );
    // The request's own signature, and what it covers, can be bound as well.
    let own = value("\"signature-input\";req;key=\"sig1\"", &message).unwrap();
    assert_eq!(
        own,
        "(\"@method\" \"@authority\" \"@path\" \"content-digest\" \"content-type\" \"content-length\");created=1618884475;keyid=\"test-key-rsa-pss\""
    );
    let signature = value("\"signature\";req;key=\"sig1\"", &message).unwrap();
    assert!(signature.starts_with(":LAH8Bjcf") && signature.ends_with("/PDkn6w==:"));
}

#[test]
fn section_2_5_the_signature_base() {
    let fields = fields(&[
        ("host", "example.com"),
        ("date", "Tue, 20 Apr 2021 02:07:55 GMT"),
        ("content-type", "application/json"),
        ("content-length", "18"),
        (
            "content-digest",
            "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:",
        ),
    ]);
    let target = Target::origin("https", "example.com", "/foo", Some("param=Value&Pet=dog"));
    let message = request("POST", target, &fields);
    let names = ["@method", "@authority", "@path", "content-digest", "content-length", "content-type"];
    let components = names.map(|name| format!("\"{name}\"").parse::<Component>().unwrap());
    let input = SignatureInput::new(components).unwrap();
    let input = input.created(1_618_884_473).unwrap().keyid("test-key-rsa-pss").unwrap();
    assert_eq!(
        signature_base(&message, &input, &FieldTypes::standard()).unwrap(),
        "\"@method\": POST\n\
         \"@authority\": example.com\n\
         \"@path\": /foo\n\
         \"content-digest\": sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:\n\
         \"content-length\": 18\n\
         \"content-type\": application/json\n\
         \"@signature-params\": (\"@method\" \"@authority\" \"@path\" \"content-digest\" \"content-length\" \"content-type\");created=1618884473;keyid=\"test-key-rsa-pss\""
    );
}

#[test]
fn identifiers_that_mean_nothing_are_refused() {
    for (text, error) in [
        ("\"@nothing\"", FormError::UnknownName),
        ("\"@signature-params\"", FormError::UnknownName),
        ("\"Content-Type\"", FormError::UpperCase),
        ("\"content type\"", FormError::UnknownName),
        ("content-type", FormError::NotString),
        ("\"content-type\";bs;sf", FormError::ParameterElsewhere),
        ("\"content-type\";bs;key=\"a\"", FormError::ParameterElsewhere),
        ("\"content-type\";name=\"a\"", FormError::ParameterElsewhere),
        ("\"@query-param\"", FormError::ParameterElsewhere),
        ("\"@method\";sf", FormError::ParameterElsewhere),
        ("\"@method\";tr", FormError::ParameterElsewhere),
        ("\"@status\";req", FormError::ParameterElsewhere),
        ("\"content-type\";sf=?0", FormError::UnknownParameter),
        ("\"content-type\";sf=1", FormError::UnknownParameter),
        ("\"content-type\";what", FormError::UnknownParameter),
        ("\"content-type", FormError::NotStructured),
    ] {
        assert_eq!(text.parse::<Component>(), Err(error), "{text}");
    }
}

#[test]
fn a_component_is_covered_once_whatever_the_order_of_its_parameters() {
    let twice = |one: &str, other: &str| {
        SignatureInput::new([one.parse().unwrap(), other.parse().unwrap()]).map(|_| ())
    };
    assert_eq!(twice("\"date\"", "\"date\""), Err(FormError::Twice));
    assert_eq!(twice("\"a\";req;key=\"b\"", "\"a\";key=\"b\";req"), Err(FormError::Twice));
    assert_eq!(twice("\"date\"", "\"date\";req"), Ok(()));
    assert_eq!(twice("\"a\";key=\"b\"", "\"a\";key=\"c\""), Ok(()));
}

#[test]
fn what_could_break_out_of_its_line_is_refused() {
    let none = HeaderMap::new();
    for target in [
        Target::origin("https", "a\n\"@method\": GET", "/", None),
        Target::origin("https", "a", "/\n", None),
        Target::origin("https", "a", "/", Some("\r")),
        Target::origin("https", "a", "/ü", None),
    ] {
        let message = request("GET", target, &none);
        assert_eq!(value("\"@target-uri\"", &message), Err(BaseError::NotAscii));
    }
    let mut fields = HeaderMap::new();
    fields.insert("x-name", HeaderValue::from_bytes(b"M\xc3\xbcller").unwrap());
    let message = request("GET", EXAMPLE, &fields);
    assert_eq!(value("\"x-name\"", &message), Err(BaseError::NotAscii));
    assert_eq!(value("\"x-name\";bs", &message).unwrap(), ":TcO8bGxlcg==:");
}
