use std::net::IpAddr;

use countersign_protocol::UnixTime;
use countersign_protocol::lookup::LookupHash;
use countersign_protocol::refusal::{Refusal, Scope};
use countersign_store::{Limiter, Quota, ReplayShare};
use http::HeaderValue;

use super::alarms::Alarms;
use super::lines::Lines;
use super::rate_fields::{self, RateFields};

/// Rate limits. A request is refused with 429 before its signature is looked at; a good token always passes.
///
/// The key is always counted together with the source, so that nobody can lock a key out for others. IPv6
/// sources are counted by /64 (RFC 6177).
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests to the endpoints, and challenges asked for elsewhere, per source. Default: 30,000 a minute, 1,000 at
    /// once.
    pub per_source: Quota,
    /// Requests to the endpoints, per source and key. Default: 15,000 a minute, 500 at once.
    pub per_key: Quota,
    /// Refused requests on protected routes, per source, whatever is wrong with them: each is a line on the trail.
    /// Default: 6,000 a minute, 400 at once.
    pub refused_per_source: Quota,
    /// Failures, per source. Default: 60 a minute, 60 at once.
    pub failures_per_source: Quota,
    /// Failures, per source and key. Default: 20 a minute, 20 at once.
    pub failures_per_key: Quota,
    /// For how many sources, or sources with keys, each of these five counts (and a sixth, of lines on the trail) is
    /// kept; 16 bytes each, whoever comes. What happens beyond is said at [`Limiter`]. Default: 262,144, which is
    /// 24 MiB once a flood has touched all of it.
    pub capacity: usize,
    /// How many used challenges and nonces are remembered at most until they expire, of all callers together; a table of at most
    /// 24 bytes each, which grows with what there is. When it is full, new ones get 503. The nonces of one peer's signed
    /// requests (`cs1`) take half of it at most; beyond that the peer gets 429. A nonce lives for up to 102 seconds, so with the
    /// default of 2,000,000 that is 10,000 requests a second of one peer, and more if it signs for less than a minute.
    pub replay_capacity: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            per_source: Quota::per_minute(30_000, 1_000),
            per_key: Quota::per_minute(15_000, 500),
            refused_per_source: Quota::per_minute(6_000, 400),
            failures_per_source: Quota::per_minute(60, 60),
            failures_per_key: Quota::per_minute(20, 20),
            capacity: 262_144,
            replay_capacity: 2_000_000,
        }
    }
}

#[derive(Debug)]
pub(super) struct Limiters {
    source: Limiter,
    key: Limiter,
    refused: Limiter,
    source_failures: Limiter,
    key_failures: Limiter,
    pub(super) lines: Lines,
    pub(super) alarms: Alarms,
    /// Live nonces of one peer.
    most_nonces: usize,
    /// What all of these are, for callers.
    policy: HeaderValue,
}

impl Limiters {
    /// `spare`: lines a day on the trail for attempts that are not accepted.
    pub(super) fn new(limits: &Limits, spare: u64) -> Self {
        Self {
            source: Limiter::new(limits.per_source, limits.capacity),
            key: Limiter::new(limits.per_key, limits.capacity),
            refused: Limiter::new(limits.refused_per_source, limits.capacity),
            source_failures: Limiter::new(limits.failures_per_source, limits.capacity),
            key_failures: Limiter::new(limits.failures_per_key, limits.capacity),
            lines: Lines::new(limits.capacity, spare),
            alarms: Alarms::default(),
            most_nonces: limits.replay_capacity.div_ceil(2),
            policy: rate_fields::policy(limits),
        }
    }

    /// How this source, with this key, stands with the limits on the endpoints.
    pub(super) fn standing(
        &self,
        source: IpAddr,
        key: Option<LookupHash>,
        now_ms: u64,
    ) -> Option<RateFields> {
        let network = source_network(source);
        let by_source =
            [(rate_fields::SOURCE, &self.source), (rate_fields::SOURCE_FAILURES, &self.source_failures)]
                .map(|(name, limiter)| (name, limiter.standing(&network, now_ms)));
        let by_key = key.map(|key| {
            [(rate_fields::KEY, &self.key), (rate_fields::KEY_FAILURES, &self.key_failures)]
                .map(|(name, limiter)| (name, limiter.standing(&(network, key), now_ms)))
        });
        RateFields::least(&self.policy, by_source.into_iter().chain(by_key.into_iter().flatten()))
    }

    /// The limit because of which this refusal is a 429; `None` for other refusals.
    pub(super) fn used_up(&self, refusal: &Refusal) -> Option<RateFields> {
        RateFields::used_up(&self.policy, refusal)
    }

    /// Bytes of all counts.
    #[cfg(test)]
    fn bytes(&self) -> usize {
        let all = [&self.source, &self.key, &self.refused, &self.source_failures, &self.key_failures];
        all.map(Limiter::bytes).iter().sum::<usize>() + self.lines.bytes()
    }

    /// A refused request on a protected route.
    pub(super) fn refused(&self, source: IpAddr, now_ms: u64) -> Result<(), Refusal> {
        limited(self.refused.hit(&source_network(source), now_ms), Scope::Refused)
    }

    /// A request to an endpoint, or for a challenge.
    pub(super) fn request(&self, source: IpAddr, now_ms: u64) -> Result<(), Refusal> {
        limited(self.source.hit(&source_network(source), now_ms), Scope::Source)
    }

    /// … with this key.
    pub(super) fn request_with_key(
        &self,
        source: IpAddr,
        key: LookupHash,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        limited(self.key.hit(&(source_network(source), key), now_ms), Scope::Key)
    }

    /// Whether another nonce of this peer may be burned.
    pub(super) fn nonce(&self, share: &ReplayShare, now: UnixTime) -> Result<(), Refusal> {
        let room = share.has_room(self.most_nonces, now);
        room.map_err(|retry_after| Refusal::RateLimited { retry_after, scope: Scope::Nonces })
    }

    /// Whether this source, with this key, has failed too often to be listened to now.
    pub(super) fn may_try(
        &self,
        source: IpAddr,
        key: Option<LookupHash>,
        now_ms: u64,
    ) -> Result<(), Refusal> {
        limited(self.source_failures.peek(&source_network(source), now_ms), Scope::SourceFailures)?;
        match key {
            Some(key) => {
                limited(self.key_failures.peek(&(source_network(source), key), now_ms), Scope::KeyFailures)
            }
            None => Ok(()),
        }
    }

    /// Counts a failure.
    pub(super) fn failed(&self, source: IpAddr, key: Option<LookupHash>, now_ms: u64) {
        // Whether it was the one too many is for the next attempt to find out.
        let _ = self.source_failures.hit(&source_network(source), now_ms);
        if let Some(key) = key {
            let _ = self.key_failures.hit(&(source_network(source), key), now_ms);
        }
    }
}

fn limited(result: Result<(), u64>, scope: Scope) -> Result<(), Refusal> {
    result.map_err(|wait_ms| Refusal::RateLimited { retry_after: wait_ms.div_ceil(1_000).max(1), scope })
}

/// What counts as one source: an IPv4 address (mapped ones too), or an IPv6 /64, as one customer of a provider has
/// it (RFC 6177).
#[must_use]
pub fn source_network(source: IpAddr) -> u128 {
    match source.to_canonical() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits() >> 64 << 64,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::lines::Share;
    use super::*;

    /// A key that nobody has.
    fn unknown(number: u32) -> LookupHash {
        let mut bytes = [7; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        LookupHash::from_bytes(bytes)
    }

    /// What an attempt does with the limits when it fails.
    fn fail(limiters: &Limiters, source: IpAddr, key: LookupHash, now: u64) -> Result<(), Refusal> {
        limiters.request(source, now)?;
        limiters.request_with_key(source, key, now)?;
        limiters.may_try(source, Some(key), now)?;
        limiters.failed(source, Some(key), now);
        limiters.refused(source, now)?;
        let _ = limiters.lines.has_room(true, Share::Stranger, source, now);
        Ok(())
    }

    #[test]
    fn a_million_addresses_networks_and_unknown_keys_take_no_memory_and_lock_nobody_out() {
        let limiters = Limiters::new(&Limits::default(), u64::MAX);
        let empty = limiters.bytes();
        assert_eq!(empty, 6 * 16 * 262_144);
        let (guesser, key) = (IpAddr::from([192, 0, 2, 1]), unknown(u32::MAX));
        while fail(&limiters, guesser, key, 0).is_ok() {}
        for number in 0..1_000_000_u32 {
            // In half a minute.
            let now = u64::from(number) * 30 / 1_000;
            let v4 = IpAddr::V4(Ipv4Addr::from(0x1400_0000 + number));
            let v6 = IpAddr::V6(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(number) << 64 | 1));
            for source in [v4, v6] {
                assert_eq!(fail(&limiters, source, unknown(number), now), Ok(()), "{source}");
            }
        }
        assert_eq!(limiters.bytes(), empty);
        let now = 30_000;
        let neighbour = IpAddr::from([192, 0, 2, 2]);
        assert_eq!(limiters.may_try(neighbour, Some(key), now), Ok(()), "the same key from another source");
        assert_eq!(
            limiters.may_try(guesser, Some(unknown(1)), now),
            Ok(()),
            "another key from the same source"
        );
        // Of twenty, ten have come back in half a minute.
        for _ in 0..10 {
            assert_eq!(fail(&limiters, guesser, key, now), Ok(()));
        }
        let locked_out = fail(&limiters, guesser, key, now);
        assert!(
            matches!(locked_out, Err(Refusal::RateLimited { scope: Scope::KeyFailures, .. })),
            "{locked_out:?}"
        );
    }

    #[test]
    fn neighbours_in_a_64_are_one_source_and_mapped_addresses_are_ipv4() {
        let network = |text: &str| source_network(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:1"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
