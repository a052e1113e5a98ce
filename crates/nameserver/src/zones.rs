//! What the name server knows.

use std::net::IpAddr;

use anyhow::Context as _;
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType, rdata};

/// How long an answer may be kept, in seconds. A demo or a test is over sooner.
const TTL: u32 = 60;

/// The records of some zones.
#[derive(Debug, Default)]
pub struct Zones {
    origins: Vec<LowerName>,
    records: Vec<Record>,
    failing: Vec<LowerName>,
}

fn name(text: &str) -> anyhow::Result<Name> {
    Name::from_ascii(format!("{text}.")).with_context(|| format!("{text:?} is no domain name"))
}

impl Zones {
    /// Answers for a domain and all names below it: with NXDOMAIN where it knows nothing.
    ///
    /// # Errors
    /// It is no domain name.
    pub fn zone(&mut self, origin: &str) -> anyhow::Result<&mut Self> {
        self.origins.push(LowerName::new(&name(origin)?));
        Ok(self)
    }

    /// Adds any record.
    ///
    /// # Errors
    /// The owner is no domain name.
    pub fn record(&mut self, owner: &str, data: RData) -> anyhow::Result<&mut Self> {
        self.records
            .push(Record::from_rdata(name(owner)?, TTL, data));
        Ok(self)
    }

    /// A host to which the domain's mail goes (RFC 5321 section 5.1). The host "" at preference
    /// 0 is the null MX of RFC 7505.
    ///
    /// # Errors
    /// A name is no domain name.
    pub fn mx(&mut self, domain: &str, preference: u16, host: &str) -> anyhow::Result<&mut Self> {
        let exchange = if host.is_empty() {
            Name::root()
        } else {
            name(host)?
        };
        self.record(domain, RData::MX(rdata::MX::new(preference, exchange)))
    }

    /// An address of a host.
    ///
    /// # Errors
    /// The host is no domain name.
    pub fn address(&mut self, host: &str, address: IpAddr) -> anyhow::Result<&mut Self> {
        let data = match address {
            IpAddr::V4(address) => RData::A(rdata::A(address)),
            IpAddr::V6(address) => RData::AAAA(rdata::AAAA(address)),
        };
        self.record(host, data)
    }

    /// Another name of a host.
    ///
    /// # Errors
    /// A name is no domain name.
    pub fn alias(&mut self, alias: &str, host: &str) -> anyhow::Result<&mut Self> {
        let target = name(host)?;
        self.record(alias, RData::CNAME(rdata::CNAME(target)))
    }

    /// Answers SERVFAIL to whatever is asked about a name.
    ///
    /// # Errors
    /// It is no domain name.
    pub fn fail(&mut self, owner: &str) -> anyhow::Result<&mut Self> {
        self.failing.push(LowerName::new(&name(owner)?));
        Ok(self)
    }

    pub(crate) fn fails(&self, name: &LowerName) -> bool {
        self.failing.contains(name)
    }

    pub(crate) fn is_ours(&self, name: &LowerName) -> bool {
        self.origins.iter().any(|origin| origin.zone_of(name))
    }

    pub(crate) fn exists(&self, name: &LowerName) -> bool {
        self.at(name).next().is_some()
    }

    /// The records of a kind, with the aliases that lead to them first.
    pub(crate) fn find(&self, name: &LowerName, kind: RecordType) -> Vec<&Record> {
        let mut found = Vec::new();
        let mut name = name.clone();
        // Aliases may form a circle.
        for _ in 0..8 {
            found.extend(self.at(&name).filter(|record| record.record_type() == kind));
            let alias = self
                .at(&name)
                .find(|record| record.record_type() == RecordType::CNAME);
            match alias {
                Some(alias) if kind != RecordType::CNAME => {
                    found.push(alias);
                    let RData::CNAME(target) = &alias.data else {
                        break;
                    };
                    name = LowerName::new(&target.0);
                }
                _ => break,
            }
        }
        found
    }

    fn at(&self, name: &LowerName) -> impl Iterator<Item = &Record> {
        self.records
            .iter()
            .filter(move |record| LowerName::new(&record.name) == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aliases_are_followed_and_circles_end() {
        let mut zones = Zones::default();
        zones
            .zone("a.test")
            .unwrap()
            .alias("www.a.test", "host.a.test")
            .unwrap()
            .address("host.a.test", [127, 0, 0, 1].into())
            .unwrap()
            .alias("x.a.test", "y.a.test")
            .unwrap()
            .alias("y.a.test", "x.a.test")
            .unwrap();
        let lower = |text: &str| LowerName::new(&name(text).unwrap());
        let kinds: Vec<_> = zones
            .find(&lower("WWW.a.test"), RecordType::A)
            .iter()
            .map(|record| record.record_type())
            .collect();
        assert_eq!(kinds, [RecordType::CNAME, RecordType::A]);
        assert!(!zones.find(&lower("x.a.test"), RecordType::A).is_empty());
        assert!(zones.is_ours(&lower("deep.below.a.test")) && !zones.is_ours(&lower("b.test")));
        assert!(!zones.exists(&lower("nothing.a.test")));
    }
}
