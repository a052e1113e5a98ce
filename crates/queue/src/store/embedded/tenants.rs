//! Tenants of queued messages by number, so that a message names its tenant in four bytes.

use hashbrown::HashMap;

/// A tenant, while it has messages.
#[derive(Debug)]
struct Tenant {
    name: Box<str>,
    weight: u32,
    messages: u64,
}

/// All tenants that have queued messages.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    by_name: HashMap<Box<str>, u32>,
    tenants: Vec<Option<Tenant>>,
    unused: Vec<u32>,
}

impl Tenants {
    /// The tenant of one more message; `weight` is asked for a new one.
    pub(super) fn enter(&mut self, name: &str, weight: impl FnOnce(&str) -> u32) -> u32 {
        if let Some(index) = self.by_name.get(name) {
            if let Some(tenant) = &mut self.tenants[*index as usize] {
                tenant.messages += 1;
            }
            return *index;
        }
        let tenant = Some(Tenant {
            name: name.into(),
            weight: weight(name),
            messages: 1,
        });
        let index = match self.unused.pop() {
            Some(index) => {
                self.tenants[index as usize] = tenant;
                index
            }
            None => {
                self.tenants.push(tenant);
                (self.tenants.len() - 1) as u32
            }
        };
        self.by_name.insert(name.into(), index);
        index
    }

    /// A message of the tenant is gone.
    pub(super) fn leave(&mut self, index: u32) {
        let Some(place) = self.tenants.get_mut(index as usize) else {
            return;
        };
        let Some(tenant) = place else { return };
        tenant.messages -= 1;
        if tenant.messages == 0 {
            self.by_name.remove(&tenant.name);
            *place = None;
            self.unused.push(index);
        }
    }

    fn get(&self, index: u32) -> Option<&Tenant> {
        self.tenants.get(index as usize)?.as_ref()
    }

    pub(super) fn name(&self, index: u32) -> &str {
        self.get(index).map_or("", |tenant| &tenant.name)
    }

    /// Its share of a destination, relative to others.
    pub(super) fn weight(&self, index: u32) -> u32 {
        self.get(index).map_or(1, |tenant| tenant.weight)
    }

    /// The number of a tenant that has messages.
    pub(super) fn find(&self, name: &str) -> Option<u32> {
        self.by_name.get(name).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_is_there_while_it_has_messages() {
        let mut tenants = Tenants::default();
        let a = tenants.enter("a", |_| 3);
        assert_eq!(tenants.enter("a", |_| 9), a);
        let b = tenants.enter("b", |_| 1);
        assert_eq!((tenants.name(a), tenants.weight(a)), ("a", 3));
        tenants.leave(a);
        assert_eq!(tenants.find("a"), Some(a));
        tenants.leave(a);
        assert_eq!((tenants.find("a"), tenants.name(a)), (None, ""));
        assert_eq!(tenants.enter("c", |_| 1), a);
        assert_eq!(tenants.find("b"), Some(b));
    }
}
