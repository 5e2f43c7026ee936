use std::path::Path;

use countersign::client::{BaseUrl, tls_config};
use countersign::protocol::cs1::Binding;
use countersign::store::{Credential, Cs1Options, Keys, Listing, Peer, StoreError};
use countersign::{NewPeer, Profile, Trust};
use serde_json::{Value, json};

use super::{peer_file, rotate};
use crate::args::{PeerAddArgs, PeerCommand, PeerScheduleArgs};
use crate::change::{self, Change};
use crate::duration::Span;
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::keys::given_keys;
use crate::{life, show};

pub(crate) fn run(home: &Home, command: PeerCommand) -> Result<(), Failure> {
    match command {
        PeerCommand::Add(args) => add(home, &args),
        PeerCommand::List(output) => list(home, output.json),
        PeerCommand::Show(args) => {
            let peer = home.store()?.get(&args.peer.name)?;
            if args.output.json { show::json(&describe(&peer)) } else { show_one(&peer) }
        }
        PeerCommand::Remove(peer) => {
            let Stores { peers, local } = home.stores()?;
            peers.remove(&peer.name)?;
            // From here on it is in effect, whatever else fails.
            let recorded =
                change::record(home, &local, Change::of("peer-remove", "peer-removed", &peer.name));
            let files = rotate::remove_all(home, &peer.name) + &peer_file::remove(home, &peer.name);
            let told = show::done(&format!(
                "removed {}; a running server refuses it within a second\n{files}",
                peer.name
            ));
            Failure::both(told, recorded)
        }
        PeerCommand::Schedule(args) => schedule(home, &args),
        PeerCommand::Export(args) => peer_file::export(home, &args),
        PeerCommand::Import(args) => peer_file::import(home, &args),
    }
}

fn schedule(home: &Home, args: &PeerScheduleArgs) -> Result<(), Failure> {
    let Stores { peers, local } =
        home.changeable("`rotate_every_days` in its [[peer]] table; restart the server then")?;
    let (name, every) = (&args.peer.name, args.every.0);
    peers.set_schedule(name, every.map(|span| span.0))?;
    let shown = every.map_or_else(|| "never".to_owned(), |span| format!("every {span}"));
    let change = Change { detail: Some(shown.clone()), ..Change::of("peer-schedule", "schedule-set", name) };
    let recorded = change::record(home, &local, change);
    let due = peers.get(name).ok().filter(|peer| peer.due().is_some());
    let due = due.map(|peer| format!("; due {}", life::due(&peer, show::now()))).unwrap_or_default();
    let told = show::done(&format!("{name} is to be rotated {shown}{due}\n"));
    Failure::both(told, recorded)
}

fn add(home: &Home, args: &PeerAddArgs) -> Result<(), Failure> {
    // Everything that can be wrong with the arguments is said before a secret is asked for.
    let Stores { peers: store, local } = home.stores()?;
    // Kept as the parser writes it: in ASCII, percent-encoded.
    let url = args.url.as_deref().map(BaseUrl::parse).transpose()?.map(|url| url.to_string());
    let trust = trust(args.tls_ca.as_deref(), args.tls_pin.as_ref())?;
    if args.url.is_some() {
        tls_config(&trust).or_else(|error| match trust {
            // A machine without authorities can still add the peer and be called by it.
            Trust::System => Ok(tls_config(&Trust::Pin([0; 32]))?),
            _ => Err(error),
        })?;
    }
    if args.peer.name == home.config()?.service {
        return Err(Failure::new(format!("`{}` is this service itself", args.peer.name)));
    }
    let cs1 =
        Cs1Options { binding: args.binding.unwrap_or(Binding::None), danger_direct: args.danger_direct };
    cs1.check(args.profile, args.danger_unproven_server)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let keys = given_keys(args.profile, &args.keys)?;
    let peer = NewPeer {
        name: args.peer.name.clone(),
        url,
        trust,
        danger_unproven_server: args.danger_unproven_server,
        cs1,
        keys,
    };
    let peer = store.add(peer, show::now())?;
    let change = Change {
        credential: peer.credentials.last().map(|credential| credential.id(&peer.name)),
        profile: Some(peer.profile),
        ..Change::of("peer-add", "peer-added", &peer.name)
    };
    let recorded = change::record(home, &local, change);
    let fingerprint = peer.credentials.last().map(|credential| credential.fingerprint.to_string());
    let told = show::done(&format!(
        "added {} (profile {})\nfingerprint {}\nThe other side must see the same digits: `countersign peer show`, and read them to each other.\n",
        peer.name,
        peer.profile,
        fingerprint.unwrap_or_default(),
    ));
    Failure::both(told, recorded)
}

/// How the certificate at a peer's URL is judged.
pub(crate) fn trust(authorities: Option<&Path>, pin: Option<&Trust>) -> Result<Trust, Failure> {
    match (authorities, pin) {
        (Some(path), _) => {
            let pem = std::fs::read_to_string(path).context(|| path.display().to_string())?;
            let trust = Trust::Ca(pem);
            tls_config(&trust).context(|| path.display().to_string())?;
            Ok(trust)
        }
        (None, Some(pin)) => Ok(pin.clone()),
        (None, None) => Ok(Trust::System),
    }
}

fn list(home: &Home, as_json: bool) -> Result<(), Failure> {
    let Listing { peers, damaged } = home.store()?.read_all()?;
    if as_json {
        show::json(&peers.iter().map(describe).collect::<Vec<_>>())?;
        return complain(&damaged);
    }
    if peers.is_empty() && damaged.is_empty() {
        return show::out(
            "no peers yet: `countersign pair` (docs/pairing.md) or `countersign peer add` (docs/key-exchange.md)\n",
        );
    }
    let now = show::now();
    let rows: Vec<_> = peers
        .iter()
        .map(|peer| {
            vec![
                peer.name.to_string(),
                peer.profile.to_string(),
                peer.url.as_deref().map_or_else(|| "-".to_owned(), show::printable_lines),
                life::summary(peer, now),
                life::due(peer, now),
                show::age(peer.created, now),
            ]
        })
        .collect();
    show::out(&show::table(&["PEER", "PROFILE", "URL", "CREDENTIAL", "DUE", "ADDED"], &rows))?;
    complain(&damaged)
}

/// Fails with what is wrong with each damaged peer, after the others have been shown.
pub(crate) fn complain(damaged: &[StoreError]) -> Result<(), Failure> {
    if damaged.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = damaged.iter().map(ToString::to_string).collect();
    Err(Failure::new(lines.join("\n")))
}

fn show_one(peer: &Peer) -> Result<(), Failure> {
    let now = show::now();
    let every = peer.rotate_every.map_or_else(|| "never".to_owned(), |every| Span(every).to_string());
    let due = life::due(peer, now);
    let mut text = format!(
        "peer         {}\nprofile      {}\nrotation     every {every}, due {due}\n",
        peer.name, peer.profile
    );
    if let Some(url) = &peer.url {
        text.push_str(&format!(
            "url          {}\ntls          {}\n",
            show::printable_lines(url),
            trust_text(&peer.trust)
        ));
    }
    if peer.profile == Profile::Cs1 {
        text.push_str(&format!("binding      {}\n", peer.cs1.binding.as_str()));
    }
    if peer.danger_unproven_server {
        text.push_str("danger       its server is called even if it does not prove itself\n");
    }
    if peer.cs1.danger_direct {
        text.push_str("danger       its requests are taken without a handshake (no forward secrecy)\n");
    }
    for credential in &peer.credentials {
        let (ours, theirs) = keys(credential);
        text.push_str(&format!(
            "\ncredential   {}\n  state      {}\n  added      {} ago\n  they used it  {}\n  we used it    {}\n  our key    {}\n  their key  {}\n  fingerprint  {}\n",
            credential.id(&peer.name),
            life::State::of(peer, credential, now).text(peer, now),
            show::age(credential.created, now),
            life::ago(credential.used_inbound, now),
            life::ago(credential.used_outbound, now),
            ours.as_str(),
            theirs.as_str(),
            credential.fingerprint,
        ));
    }
    for ended in &peer.ended {
        text.push_str(&format!(
            "\ncredential   {}/{}\n  state      {}\n  fingerprint  {}\n",
            peer.name,
            ended.number,
            life::ended_text(ended, now),
            ended.fingerprint
        ));
    }
    text.push_str("\nRead the fingerprint to the other side's operator, on a call that you trust.\n");
    show::out(&text)
}

pub(crate) fn trust_text(trust: &Trust) -> String {
    match trust {
        Trust::System => "the system's certificate authorities".to_owned(),
        Trust::Ca(_) => "given certificates".to_owned(),
        Trust::Pin(pin) => format!("pinned key {}", Trust::pin_text(pin)),
    }
}

/// Our key and theirs, as far as they may be shown: under api-key a key is a secret.
fn keys(credential: &Credential) -> (String, String) {
    match &credential.keys {
        Keys::Cs1 { our_key, their_key, .. } | Keys::SharedSecret { our_key, their_key, .. } => {
            (our_key.expose().to_owned(), their_key.expose().to_owned())
        }
        Keys::ApiKey { ours, theirs } => {
            let known = |there: bool| if there { "set (a secret: not shown)" } else { "none" }.to_owned();
            (known(ours.is_some()), known(theirs.is_some()))
        }
    }
}

/// A peer as JSON, without secrets.
pub(crate) fn describe(peer: &Peer) -> Value {
    let now = show::now();
    let credentials: Vec<Value> = peer
        .credentials
        .iter()
        .map(|credential| {
            let life = life::credential_json(peer, credential, now);
            let (ours, theirs) = credential.keys.public().unzip();
            json!({
                "id": credential.id(&peer.name).to_string(),
                "number": credential.number,
                "created": credential.created.0,
                "fingerprint": credential.fingerprint.as_str(),
                "ourKey": ours.map(|key| key.expose()),
                "theirKey": theirs.map(|key| key.expose()),
                "life": life,
            })
        })
        .collect();
    let cs1 = (peer.profile == Profile::Cs1).then_some(peer.cs1);
    json!({
        "name": peer.name.as_str(),
        "profile": peer.profile.as_str(),
        "url": peer.url,
        "tls": trust_text(&peer.trust),
        "created": peer.created.0,
        "dangerUnprovenServer": peer.danger_unproven_server,
        "binding": cs1.map(|cs1| cs1.binding.as_str()),
        "dangerDirect": cs1.map(|cs1| cs1.danger_direct),
        "credentials": credentials,
        "ended": peer.ended.iter().map(|ended| life::ended_json(peer, ended)).collect::<Vec<_>>(),
        "rotation": life::rotation_json(peer, now),
        "rotateEverySeconds": peer.rotate_every,
        "due": peer.due().map(|at| at.0),
        "overdueFrom": peer.overdue_from().map(|at| at.0),
        "overdue": peer.is_overdue(now),
    })
}

/// The PEM file of `--upstream`'s authority.
pub(crate) fn trust_in_file(path: Option<&Path>) -> Result<Trust, Failure> {
    match path {
        Some(path) => Ok(Trust::Ca(std::fs::read_to_string(path).context(|| path.display().to_string())?)),
        None => Ok(Trust::System),
    }
}
