//! `orders` and `billing` under `cs1`, which rotate in band.

use super::life::status;
use super::{Done, Home, Serving, eventually, new_key, new_secret};

/// Both serve on ports that stay theirs, and know each other.
pub struct Rotating {
    pub orders: Home,
    pub billing: Home,
    pub orders_url: String,
    pub billing_url: String,
    /// Whether `orders` knows where `billing` is.
    pub both_call: bool,
}

impl Rotating {
    /// Nobody serves yet. `configured` goes into both configurations.
    pub fn new(both_call: bool, configured: &str) -> Self {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let (orders_url, billing_url) = (free(&orders), free(&billing));
        for home in [&orders, &billing] {
            home.configure(configured);
        }
        let pair = Self { orders, billing, orders_url, billing_url, both_call };
        let (keys, secret) = ([new_key(), new_key()], new_secret());
        pair.introduce(&pair.billing, "orders", Some(&pair.orders_url), [&keys[0], &keys[1]], &secret);
        let url = both_call.then_some(&*pair.billing_url);
        pair.introduce(&pair.orders, "billing", url, [&keys[1], &keys[0]], &secret);
        pair
    }

    fn introduce(&self, home: &Home, name: &str, url: Option<&str>, [ours, theirs]: [&str; 2], secret: &str) {
        let file = home.secret_file("secret", secret);
        let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
        let url = url.map_or_else(Vec::new, |url| vec!["--url", url]);
        home.run(&[&["peer", "add", name, "--profile", "cs1"][..], &keys, &url].concat()).ok();
    }

    pub fn serve_orders(&self) -> Serving {
        Serving::start(&self.orders, &["--listen", &self.orders_url])
    }

    pub fn serve_billing(&self) -> Serving {
        Serving::start(&self.billing, &["--listen", &self.billing_url])
    }

    /// `billing` calls `orders`.
    pub fn call(&self) -> Done {
        self.billing.run(&["call", "-X", "POST", "-d", "data", &format!("{}/x", self.orders_url)])
    }

    /// `orders` calls `billing`.
    pub fn call_back(&self) -> Done {
        self.orders.run(&["call", "-X", "POST", "-d", "data", &format!("{}/x", self.billing_url)])
    }

    /// The live credentials of both, by fingerprint, oldest first.
    pub fn fingerprints(&self) -> [Vec<String>; 2] {
        [(&self.billing, "orders"), (&self.orders, "billing")].map(|(home, name)| {
            let peer = status(home, name);
            let live = peer["credentials"].as_array().unwrap().iter();
            live.map(|one| one["fingerprint"].as_str().unwrap().to_owned()).collect()
        })
    }

    /// Waits until both have the same single credential; its number at `billing`.
    #[track_caller]
    pub fn settled(&self) -> u64 {
        eventually("both have one credential, and the same", || {
            let [here, there] = self.fingerprints();
            here.len() == 1 && here == there
        });
        status(&self.billing, "orders")["credentials"][0]["number"].as_u64().unwrap()
    }

    /// Ends the overlap on both sides at once, so that the next rotation need not wait for it.
    #[track_caller]
    pub fn finish(&self) {
        for (home, name) in [(&self.billing, "orders"), (&self.orders, "billing")] {
            if status(home, name)["credentials"].as_array().unwrap().len() == 2 {
                // Its time may be over by itself in this moment.
                eventually("the overlap is over", || {
                    let done = home.run(&["rotate", name, "--finish"]);
                    done.code == 0 || done.stderr.contains("no rotation of")
                });
            }
        }
    }
}

/// A port that nobody has now.
fn free(home: &Home) -> String {
    Serving::http(home).url().to_owned()
}
