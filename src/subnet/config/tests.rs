use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<NetworkConfig, ConfigError> {
    NetworkConfig::parse(text.as_bytes())
}

/// Mistakes that flannel waits out, in its own words but for syntax errors.
#[test]
fn mistakes_that_are_waited_out() {
    for (text, expected) in [
        ("not json", "it is not valid JSON: expected ident at line 1 column 2"),
        ("", "it is not valid JSON: EOF while parsing a value at line 1 column 0"),
        (
            r#"{"Network":"10.0.0.0/16"} trailing"#,
            "it is not valid JSON: trailing characters at line 1 column 27",
        ),
        (
            "{\n  \"Network\": \"10.0.0.0/16\",\n}",
            "it is not valid JSON: trailing comma at line 3 column 1",
        ),
        ("{}", "please define a correct Network parameter in the flannel config"),
        ("null", "please define a correct Network parameter in the flannel config"),
        (
            r#"{"Network":"0.0.0.0/0"}"#,
            "please define a correct Network parameter in the flannel config",
        ),
        (
            r#"{"Network":"10.0.0.0/0"}"#,
            "please define a correct Network parameter in the flannel config",
        ),
        (r#"{"Network":"10.0.0.0"}"#, "invalid CIDR address: 10.0.0.0"),
        (r#"{"Network":7}"#, "invalid CIDR address: 7"),
        (r#"{"Network":"10.0.0.0/16","SubnetLen":31}"#, "SubnetLen must be less than /31"),
        (
            r#"{"Network":"10.0.0.0/16","SubnetLen":17}"#,
            "network must be able to accommodate at least four subnets",
        ),
        (
            r#"{"Network":"10.0.0.0/29"}"#,
            "network is too small. Minimum useful network prefix is /28",
        ),
        (
            r#"{"Network":"10.0.0.0/16","SubnetMin":"10.1.0.0"}"#,
            "SubnetMin is not in the range of the Network",
        ),
        (
            r#"{"Network":"10.0.0.0/16","SubnetMax":"10.1.0.0"}"#,
            "SubnetMax is not in the range of the Network",
        ),
        (
            r#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.0.7"}"#,
            "SubnetMin is not on a SubnetLen boundary: 10.0.0.7",
        ),
        (
            r#"{"Network":"10.0.0.0/16","SubnetMax":"10.0.9.7"}"#,
            "SubnetMax is not on a SubnetLen boundary: 10.0.9.7",
        ),
        (r#"{"Network":"10.0.0.0/16","SubnetMin":"bogus"}"#, "Invalid IP address format"),
        (
            r#"{"Network":"10.0.0.0/16","SubnetLen":"24"}"#,
            "json: cannot unmarshal string into Go struct field Config.SubnetLen of type uint",
        ),
        (
            r#"{"Network":"10.0.0.0/16","SubnetLen":-1}"#,
            "json: cannot unmarshal number -1 into Go struct field Config.SubnetLen of type uint",
        ),
        (
            r#"{"Network":"10.0.0.0/16","Backend":"udp"}"#,
            "error decoding Backend property of config: json: cannot unmarshal string into Go \
             value of type struct { Type string }",
        ),
        (
            r#"{"EnableIPv4":false,"EnableIPv6":true}"#,
            "please define a correct IPv6Network parameter in the flannel config",
        ),
        (
            r#"{"Network":"10.0.0.0/16","EnableIPv6":true}"#,
            "please define a correct IPv6Network parameter in the flannel config",
        ),
        ("[]", "json: cannot unmarshal array into Go value of type subnet.Config"),
        (
            r#"{"Network":"fc00::/48"}"#,
            "Network fc00::/48 is IPv6: the udp backend carries IPv4 only; use an IPv4 network",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
        assert!(!error.is_fatal(), "{text}");
    }
}

#[test]
fn mistakes_that_end_the_program() {
    for (text, expected) in [
        (r#"{"Network":"10.0.0.0/16","EnableIPv4":false}"#, "none defined stack"),
        (r#"{"Network":"10.0.0.0/16","Backend":{"Type":"foo"}}"#, "unknown backend type: foo"),
        (r#"{"Network":"10.0.0.0/16","Backend":{}}"#, "unknown backend type: "),
        (r#"{"Network":"10.0.0.0/16","Backend":null}"#, "unknown backend type: "),
        (
            r#"{"Network":"10.0.0.0/16","Backend":{"Type":"udp","Port":"9000"}}"#,
            "error decoding UDP backend config: json: cannot unmarshal string into Go struct \
             field .Port of type int",
        ),
        (
            r#"{"Network":"10.0.0.0/16","Backend":{"Type":"udp","Port":70000}}"#,
            "Backend.Port 70000 is not a UDP port; use a number from 1 to 65535",
        ),
        (
            r#"{"Network":"10.0.0.0/16","Backend":{"Type":"udp","Port":0}}"#,
            "Backend.Port 0 is not a UDP port; use a number from 1 to 65535",
        ),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.to_string(), expected, "{text}");
        assert!(error.is_fatal(), "{text}");
    }
}

#[test]
fn valid_configs() {
    let plain = parse(r#"{"Network":"10.9.0.0/16"}"#).unwrap();
    assert_eq!(plain.subnet_len, 24);
    assert_eq!(plain.subnet_min, Ipv4Addr::new(10, 9, 1, 0));
    assert_eq!(plain.subnet_max, Ipv4Addr::new(10, 9, 255, 0));
    assert_eq!(plain.port, 8285);
    assert!(!plain.enable_nftables && plain.not_carried.is_empty());
    let ipv6 = r#""IPv6Network":"fc00::/48","ipv6subnetlen":64"#;
    let dual = |enabled| {
        parse(&format!(r#"{{"Network":"10.9.0.0/16","EnableIPv6":{enabled},{ipv6}}}"#)).unwrap()
    };
    assert_eq!(dual(true).not_carried, ["EnableIPv6", "IPv6Network", "IPv6SubnetLen"]);
    assert!(dual(false).not_carried.is_empty(), "flannel ignores them too");

    // Keys in any case, unknown keys, host bits, a port of its own.
    let other = parse(
        r#"{"network":"10.0.5.0/16","SUBNETMIN":"10.0.1.0","subnetMax":"10.0.20.0","X":[1],
            "backend":{"type":"UDP","port":9000},"EnableNFTables":true}"#,
    )
    .unwrap();
    assert_eq!(other.network.to_string(), "10.0.0.0/16");
    assert_eq!(other.port, 9000);
    assert!(other.enable_nftables);
    let subnets: Vec<_> = other.subnets().collect();
    assert_eq!(subnets.len(), 20, "the last subnet is included");
    assert!(other.may_lease("10.0.20.0/24".parse().unwrap()));
    assert!(!other.may_lease("10.0.21.0/24".parse().unwrap()));
    assert!(!other.may_lease("10.0.20.0/25".parse().unwrap()));

    for (network, len) in [("10.0.0.0/22", 24), ("10.0.0.0/25", 27), ("10.0.0.0/28", 30)] {
        let config = parse(&format!(r#"{{"Network":"{network}"}}"#)).unwrap();
        assert_eq!(config.subnet_len, len, "{network}");
    }
    let min_over_max = r#"{"Network":"10.0.0.0/16","SubnetMin":"10.0.9.0","SubnetMax":"10.0.3.0"}"#;
    assert_eq!(parse(min_over_max).unwrap().subnets().count(), 0);
    let last = parse(r#"{"Network":"255.255.0.0/16"}"#).unwrap();
    assert_eq!(last.subnets().last().unwrap().to_string(), "255.255.255.0/24");
}

/// Documents that are valid JSON but unusual.
#[test]
fn the_document_is_read_as_go_reads_it() {
    for (text, network, subnet_len) in [
        // A key matches without regard to case; of a repeated key the last one counts.
        (&br#"{"nEtWoRk":"10.1.0.0/16"}"#[..], "10.1.0.0/16", 24),
        (br#"{"Network":"10.1.0.0/16","Network":"10.2.0.0/16"}"#, "10.2.0.0/16", 24),
        (br#"{"network":"10.1.0.0/16","Network":"10.2.0.0/16"}"#, "10.2.0.0/16", 24),
        (br#"{"Network":"10.1.0.0/16","network":"10.2.0.0/16"}"#, "10.2.0.0/16", 24),
        (br#"{"Network":"10.1.0.0/16","SubnetLen":25,"subnetlen":26}"#, "10.1.0.0/16", 26),
        (
            "{\"Network\":\"10.1.0.0/16\",\"SubnetLen\":25,\"\u{17f}ubnetLen\":26}".as_bytes(),
            "10.1.0.0/16",
            26,
        ),
        // `null` changes nothing.
        (br#"{"Network":"10.1.0.0/16","SubnetLen":25,"SubnetLen":null}"#, "10.1.0.0/16", 25),
        (br#"{"Network":"10.1.0.0/16","SubnetLen":null,"EnableIPv4":null}"#, "10.1.0.0/16", 24),
        // An escape is the character that it stands for.
        (br#"{"Network":"10.1.0.0\u002f16","SubnetLen":25}"#, "10.1.0.0/16", 25),
        // Bytes that are not UTF-8 become U+FFFD, here in an unknown key.
        (b"{\"Network\":\"10.1.0.0/16\",\"\xff\":\"\xff\"}", "10.1.0.0/16", 24),
    ] {
        let config = NetworkConfig::parse(text).unwrap();
        assert_eq!(config.network.to_string(), network, "{}", String::from_utf8_lossy(text));
        assert_eq!(config.subnet_len, subnet_len, "{}", String::from_utf8_lossy(text));
    }
    // The same inside Backend, whose last occurrence replaces the others as a whole.
    for (backend, port) in [
        (r#""Backend":{"Type":"x","type":"udp","Port":1,"port":9000}"#, 9000),
        (r#""Backend":{"Type":"udp","Port":9000},"backend":{"Type":"udp"}"#, 8285),
    ] {
        let config = parse(&format!(r#"{{"Network":"10.1.0.0/16",{backend}}}"#)).unwrap();
        assert_eq!(config.port, port, "{backend}");
    }
    // An earlier occurrence of the wrong type is still a mistake.
    let twice = parse(r#"{"Network":"10.1.0.0/16","SubnetLen":"x","SubnetLen":24}"#);
    assert!(twice.unwrap_err().to_string().contains("cannot unmarshal string"));
    // A number with a fraction or an exponent is not a uint, even if its value is whole.
    for number in ["24.0", "2.4e1", "18446744073709551616"] {
        let text = format!(r#"{{"Network":"10.0.0.0/16","SubnetLen":{number}}}"#);
        let error = parse(&text).unwrap_err().to_string();
        assert!(error.contains("Config.SubnetLen of type uint"), "{number}: {error}");
    }
}

/// Deep nesting is an error, and does not overflow the stack.
#[test]
fn depth_is_bounded() {
    assert!(NetworkConfig::parse("[".repeat(1 << 20).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn any_bytes_get_an_answer(text: Vec<u8>) {
        let _ = NetworkConfig::parse(&text);
    }

    /// Every subnet of every accepted config lies in the network, is aligned, and has the right
    /// length.
    #[test]
    fn subnets_are_inside(base: u32, len in 1u8..=30, subnet in 0u8..=32, min: u32, max: u32) {
        let network = Cidr::new(Ipv4Addr::from_bits(base), len);
        let inside = |v: u32| {
            let offset = v & !(u32::MAX << (32 - len));
            let size = 1u32.checked_shl(32 - u32::from(subnet)).unwrap_or(0);
            Ipv4Addr::from_bits((network.network().to_bits() | offset) & !size.wrapping_sub(1))
        };
        let text = format!(
            r#"{{"Network":"{network}","SubnetLen":{subnet},"SubnetMin":"{}","SubnetMax":"{}"}}"#,
            inside(min), inside(max),
        );
        if let Ok(config) = parse(&text) {
            for subnet in config.subnets().take(300) {
                prop_assert!(network.covers(subnet), "{} in {}", subnet, text);
                prop_assert!(config.may_lease(subnet));
            }
        }
    }
}

#[test]
fn prefixes_that_are_no_networks_of_hosts_are_refused() {
    for (network, reserved) in [
        ("127.0.0.0/8", "127.0.0.0/8"),
        ("127.5.0.0/16", "127.0.0.0/8"),
        ("126.0.0.0/7", "127.0.0.0/8"),
        ("169.254.0.0/16", "169.254.0.0/16"),
        ("169.0.0.0/8", "169.254.0.0/16"),
        ("224.0.0.0/4", "224.0.0.0/4"),
        ("239.1.0.0/16", "224.0.0.0/4"),
        ("128.0.0.0/1", "169.254.0.0/16"),
    ] {
        let text = format!(r#"{{"Network":"{network}"}}"#);
        let error = NetworkConfig::parse(text.as_bytes()).unwrap_err();
        assert!(!error.is_fatal(), "{network}: it may still be corrected");
        let expected = format!("Network {network} cannot be used: {reserved} is reserved for ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    for network in ["126.0.0.0/8", "168.0.0.0/8", "169.253.0.0/16", "223.0.0.0/8", "240.0.0.0/16"] {
        let text = format!(r#"{{"Network":"{network}"}}"#);
        assert!(NetworkConfig::parse(text.as_bytes()).is_ok(), "{network}");
    }
}
