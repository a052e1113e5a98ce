//! In which order exchangers and addresses are tried. Without I/O.

use std::net::IpAddr;

use rand::seq::SliceRandom as _;

use crate::outcome::Verdict;

/// A domain may list as many exchangers as it likes; nobody has to try them all.
const MOST_HOSTS: usize = 10;
/// Nor all addresses of one host.
const MOST_ADDRESSES: usize = 8;

/// Exchangers by preference, equals in random order (RFC 5321 section 5.1). Of a list that
/// names this server, only what is better than this server is left: anything else would send
/// mail in circles.
pub(super) fn by_preference(
    domain: &str,
    mut records: Vec<(u16, String)>,
    own_name: &str,
) -> Result<Vec<String>, Verdict> {
    // The null MX stands alone (RFC 7505 section 3); beside others it is a mistake to ignore.
    let listed = records.len();
    records.retain(|(_, host)| !host.is_empty());
    if records.is_empty() {
        debug_assert!(listed > 0);
        return Err(Verdict::failed(
            556,
            "5.1.10",
            format!("The domain {domain} declares that it takes no mail (null MX)"),
        ));
    }
    if let Some(own) = records
        .iter()
        .filter(|(_, host)| same_host(host, own_name))
        .map(|(preference, _)| *preference)
        .min()
    {
        records.retain(|(preference, _)| *preference < own);
        if records.is_empty() {
            return Err(looping(domain));
        }
    }
    records.shuffle(&mut rand::rng());
    // Stable, so that equals stay shuffled.
    records.sort_by_key(|(preference, _)| *preference);
    let mut hosts: Vec<String> = Vec::with_capacity(records.len().min(MOST_HOSTS));
    for (_, host) in records {
        if hosts.len() < MOST_HOSTS && !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    Ok(hosts)
}

/// The best exchanger of the domain is this server, which does not hold the domain's mail.
pub(super) fn looping(domain: &str) -> Verdict {
    Verdict::failed(
        554,
        "5.4.6",
        format!(
            "Mail for {domain} loops back to this server: its MX is here, but the domain is not one of this server's"
        ),
    )
}

/// Whether two names mean one host.
pub(super) fn same_host(one: &str, other: &str) -> bool {
    let [one, other] = [one, other].map(|name| name.strip_suffix('.').unwrap_or(name));
    one.eq_ignore_ascii_case(other)
}

/// IPv6 and IPv4 in turn, IPv6 first (as RFC 6724 prefers it), so that a broken kind costs
/// one try.
pub(super) fn alternate(four: Vec<IpAddr>, six: Vec<IpAddr>) -> Vec<IpAddr> {
    let mut addresses = Vec::with_capacity(four.len() + six.len());
    let (mut four, mut six) = (four.into_iter(), six.into_iter());
    loop {
        let pair = [six.next(), four.next()];
        if pair == [None, None] || addresses.len() >= MOST_ADDRESSES {
            addresses.truncate(MOST_ADDRESSES);
            return addresses;
        }
        addresses.extend(pair.into_iter().flatten());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(records: &[(u16, &str)]) -> Result<Vec<String>, Verdict> {
        let records = records
            .iter()
            .map(|(preference, host)| (*preference, (*host).to_owned()))
            .collect();
        by_preference("x.test", records, "me.test")
    }

    #[test]
    fn lower_preferences_come_first_and_equals_vary() {
        let mut firsts = std::collections::HashSet::new();
        for _ in 0..200 {
            let order = hosts(&[(20, "c"), (10, "a"), (10, "b"), (30, "d")]).unwrap();
            assert_eq!(order[2..], ["c", "d"]);
            firsts.insert(order[0].clone());
        }
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn null_mx_refuses_for_good() {
        let verdict = hosts(&[(0, "")]).unwrap_err();
        assert_eq!((verdict.code, verdict.status.as_str()), (556, "5.1.10"));
        assert_eq!(hosts(&[(0, ""), (5, "a")]).unwrap(), ["a"]);
    }

    #[test]
    fn what_is_not_better_than_this_server_is_left_out() {
        assert_eq!(
            hosts(&[(5, "a"), (10, "ME.test"), (10, "b"), (20, "c")]).unwrap(),
            ["a"]
        );
        let verdict = hosts(&[(10, "me.test"), (20, "c")]).unwrap_err();
        assert_eq!(verdict.status, "5.4.6");
    }

    #[test]
    fn lists_are_bounded_and_without_repetition() {
        let many: Vec<(u16, String)> = (0..100).map(|n| (n, format!("h{}", n / 2))).collect();
        let order = by_preference("x.test", many, "me.test").unwrap();
        assert_eq!(order.len(), MOST_HOSTS);
        assert_eq!(order[..2], ["h0", "h1"]);
    }

    #[test]
    fn kinds_of_addresses_alternate() {
        let four = vec!["192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap()];
        let six = vec!["2001:db8::1".parse().unwrap()];
        let order: Vec<String> = alternate(four, six)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(order, ["2001:db8::1", "192.0.2.1", "192.0.2.2"]);
    }
}
