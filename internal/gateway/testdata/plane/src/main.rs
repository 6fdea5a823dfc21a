//! One life of a backend, by Plane's own Rust client: each call must be understood as by Plane. Arguments: the
//! controller's URL, a cluster, a drone.

use plane_common::{
    names::{BackendName, Name},
    types::{BackendStatus, ConnectRequest, KeyConfig, RevokeRequest, SpawnConfig},
    PlaneClient, PlaneClientError,
};
use std::time::Duration;

type Failed = Box<dyn std::error::Error>;

#[tokio::main]
async fn main() -> Result<(), Failed> {
    let args: Vec<String> = std::env::args().collect();
    let client = PlaneClient::new(args[1].parse()?);
    tokio::time::timeout(Duration::from_secs(180), life(client, &args[2], &args[3])).await?
}

async fn life(client: PlaneClient, cluster: &str, drone: &str) -> Result<(), Failed> {
    client.health_check().await?;
    println!("status {}", client.status().await?.status);

    let key = KeyConfig { name: "rust-client".into(), ..Default::default() };
    let request = ConnectRequest {
        key: Some(key.clone()),
        spawn_config: Some(SpawnConfig {
            id: None,
            cluster: Some(cluster.parse()?),
            pool: "".into(),
            executable: serde_json::json!({"image": "x"}),
            lifetime_limit_seconds: Some(600),
            max_idle_seconds: None,
            use_static_token: false,
            subdomain: None,
        }),
        user: Some("ada".into()),
        auth: serde_json::json!({"role": "owner"}).as_object().unwrap().clone(),
    };
    let first = client.connect(&request).await?;
    println!("spawned {} drone {}", first.spawned, first.drone.is_some());
    let mut stream = client.backend_status_stream(&first.backend_id).await?;
    while let Some(entry) = stream.next().await {
        if entry.status == BackendStatus::Ready {
            break;
        }
    }
    let joined = client.connect(&ConnectRequest { key: Some(key.clone()), ..Default::default() }).await?;
    println!("joined {} {}", !joined.spawned, joined.backend_id == first.backend_id);
    println!("is {}", client.backend_status(&first.backend_id).await?.status);

    let other = ConnectRequest { key: Some(KeyConfig { tag: "other".into(), ..key }), ..Default::default() };
    println!("refused {}", kind(client.connect(&other).await));
    println!("refused {}", kind(client.connect(&ConnectRequest::default()).await));
    println!("refused {}", kind(client.backend_status(&BackendName::new_random()).await));

    let state = client.cluster_state(&cluster.parse()?).await?;
    println!("drones {} ready {}", state.drones.len(), state.drones[0].ready);
    client.revoke(&RevokeRequest { backend_id: first.backend_id.clone(), user: "ada".into() }).await?;
    println!("revoked");
    client.soft_terminate(&first.backend_id).await?;
    while let Some(entry) = stream.next().await {
        if entry.status == BackendStatus::Terminated {
            println!("ended {:?} {:?}", entry.termination_reason, entry.exit_error);
            break;
        }
    }
    client.hard_terminate(&first.backend_id).await?;
    let drone = drone.to_string().try_into()?;
    println!("drained {} {}", client.drain(&cluster.parse()?, &drone).await?.updated, client.drain(&cluster.parse()?, &drone).await?.updated);
    Ok(())
}

/// The kind of a refusal, as the client read it.
fn kind<T>(result: Result<T, PlaneClientError>) -> String {
    match result {
        Err(PlaneClientError::PlaneError(error, status)) => format!("{:?} {}", error.kind, status.as_u16()),
        Err(other) => format!("otherwise: {other}"),
        Ok(_) => "not".into(),
    }
}
