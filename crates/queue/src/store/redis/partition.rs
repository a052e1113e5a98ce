//! Partitions: which part of the queue a destination belongs to, and how keys and tokens tell.
//!
//! All keys of a partition carry one hash tag, so that a Redis Cluster keeps them on one node and a
//! script finds them together. A destination belongs to one partition, and what is decided per
//! destination (order, slots, leases) is decided there.

/// Slots of a Redis Cluster.
const SLOTS: u32 = 16384;
/// Partitions that a queue may have.
pub(super) const MOST: u16 = 1024;
/// Partitions of a queue in a cluster, unless the settings say otherwise.
pub(super) const IN_CLUSTER: u16 = 16;

/// How many partitions a queue has, for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Partitions(u16);

impl Partitions {
    /// At least one, at most [`MOST`].
    pub(super) fn new(number: u16) -> Option<Self> {
        (1..=MOST).contains(&number).then_some(Self(number))
    }

    pub(super) fn number(self) -> usize {
        self.0.into()
    }

    /// The partition of a destination. It must never change for a number of partitions.
    pub(super) fn of(self, destination: &str) -> usize {
        if self.0 == 1 {
            return 0;
        }
        // FNV-1a, and the mixing of MurmurHash3 for its upper bits.
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in destination.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        (((hash >> 32) * u64::from(self.0)) >> 32) as usize
    }

    /// What all keys of a partition begin with. Their tag lies in the middle of the partition's
    /// share of the slots, so that a cluster that deals slots out evenly does so with partitions.
    pub(super) fn prefix(self, partition: usize) -> String {
        if self.0 == 1 {
            return "pr1:{0}:".to_owned();
        }
        let middle = ((2 * partition as u32 + 1) * SLOTS) / (2 * u32::from(self.0));
        let tag = (0_u32..)
            .map(|n| format!("{partition}.{n}"))
            .find(|tag| u32::from(slot(tag)) == middle);
        // Every slot has tags without end.
        format!("pr1:{{{}}}:", tag.unwrap_or_default())
    }

    /// The store's token of a partition's token.
    pub(super) fn token(self, partition: usize, local: u64) -> u64 {
        local * u64::from(self.0) + partition as u64
    }

    /// The partition and its own token.
    pub(super) fn split_token(self, token: u64) -> (usize, u64) {
        let number = u64::from(self.0);
        ((token % number) as usize, token / number)
    }
}

/// The slot of a key, or of its hash tag if it has one.
pub(super) fn slot(key: &str) -> u16 {
    let tag = key.split_once('{').and_then(|(_, rest)| {
        let (tag, _) = rest.split_once('}')?;
        (!tag.is_empty()).then_some(tag)
    });
    // CRC-16/XMODEM.
    let crc = tag.unwrap_or(key).bytes().fold(0_u16, |crc, byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            (crc << 1) ^ (if crc & 0x8000 == 0 { 0 } else { 0x1021 })
        })
    });
    crc % SLOTS as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot("123456789"), 0x31c3);
        assert_eq!(slot("{user1000}.following"), slot("user1000"));
        assert_eq!(slot("foo{}{bar}"), 8363);
    }

    #[test]
    fn partitions_lie_evenly_over_the_slots() {
        let partitions = Partitions::new(16).unwrap();
        for partition in 0..16 {
            let prefix = partitions.prefix(partition);
            assert_eq!(u32::from(slot(&prefix)), 1024 * partition as u32 + 512);
            assert!(
                prefix.starts_with(&format!("pr1:{{{partition}.")),
                "{prefix}"
            );
        }
        assert_eq!(Partitions::new(1).unwrap().prefix(0), "pr1:{0}:");
    }

    #[test]
    fn copies_of_the_layout_lie_far_from_each_other() {
        let mut slots = super::super::keys::LAYOUT.map(slot);
        slots.sort_unstable();
        assert!(
            slots[0] < 5461 && slots[1] > 5461 && slots[1] < 10922 && slots[2] > 10922,
            "{slots:?}"
        );
    }

    #[test]
    fn destinations_spread_and_stay_where_they_are() {
        let partitions = Partitions::new(16).unwrap();
        let mut counts = [0; 16];
        for n in 0..16_000 {
            counts[partitions.of(&format!("smtp:d{n}.example"))] += 1;
        }
        assert!(
            counts.iter().all(|count| (850..1150).contains(count)),
            "{counts:?}"
        );
        // What is stored relies on these.
        assert_eq!(partitions.of("smtp:example.org"), EXAMPLE);
        assert_eq!(Partitions::new(1).unwrap().of("smtp:example.org"), 0);
    }

    const EXAMPLE: usize = 15;

    #[test]
    fn tokens_tell_their_partition() {
        let partitions = Partitions::new(MOST).unwrap();
        let token = partitions.token(1023, 9_000_000_000_000_000);
        assert_eq!(partitions.split_token(token), (1023, 9_000_000_000_000_000));
        assert_eq!(Partitions::new(1).unwrap().token(0, 7), 7);
    }
}
