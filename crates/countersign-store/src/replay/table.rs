//! What a generation of claims is kept in.

/// A set of mixed numbers with open addressing and linear probing. Nothing is ever taken out.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// 0 where there is none.
    places: Vec<u128>,
    used: usize,
    /// Whether 0 is in the set.
    zero: bool,
}

impl Table {
    pub(super) fn with_room_for(claims: usize) -> Self {
        // Just so much that the last of them does not make it grow.
        Self { places: vec![0; (claims * 20).div_ceil(17)], ..Self::default() }
    }

    pub(super) const fn len(&self) -> usize {
        self.used + self.zero as usize
    }

    /// Where one begins to look, by the bits below those that chose the shard: the table's length need not be a power of
    /// two.
    fn start(&self, id: u128) -> usize {
        let place = (((id << 6) >> 64) * self.places.len() as u128) >> 64;
        usize::try_from(place).unwrap_or(0)
    }

    /// The place of `id`, or the empty one where it belongs. There is always one.
    fn find(&self, id: u128) -> Option<usize> {
        let start = self.start(id);
        let (before, after) = self.places.split_at_checked(start)?;
        let here = |place: &u128| *place == id || *place == 0;
        let found = after.iter().position(here).map(|at| start + at);
        found.or_else(|| before.iter().position(here))
    }

    /// Where `id` is to be put; `None` if it is there already.
    pub(super) fn place_of(&self, id: u128) -> Option<usize> {
        if id == 0 {
            return (!self.zero).then_some(0);
        }
        match self.find(id) {
            Some(at) => (self.places.get(at) == Some(&0)).then_some(at),
            // There is no place yet.
            None => Some(0),
        }
    }

    /// Puts in one that is not there, where [`Table::place_of`] says.
    pub(super) fn put(&mut self, id: u128, place: usize) {
        if id == 0 {
            self.zero = true;
            return;
        }
        // 85 % at most: then one looks at a few places only.
        if (self.used + 1) * 20 > self.places.len() * 17 {
            let larger = (self.places.len() + self.places.len() / 4).max(16);
            let old = std::mem::replace(&mut self.places, vec![0; larger]);
            for id in old.into_iter().filter(|id| *id != 0) {
                self.set(id);
            }
            self.set(id);
        } else if let Some(free) = self.places.get_mut(place) {
            *free = id;
        }
        self.used += 1;
    }

    fn set(&mut self, id: u128) {
        if let Some(place) = self.find(id).and_then(|at| self.places.get_mut(at)) {
            *place = id;
        }
    }

    /// All that are in it.
    pub(super) fn iter(&self) -> impl Iterator<Item = u128> {
        self.places.iter().copied().filter(|id| *id != 0).chain(self.zero.then_some(0))
    }

    /// How many there is room for.
    #[cfg(test)]
    pub(super) const fn places(&self) -> usize {
        self.places.capacity()
    }
}
