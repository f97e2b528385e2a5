//! Alerts from a monitor.

use actix_web::web::{Data, Json};
use switchback_app::alerts::{AlertMessage, AlertsTaken};

use crate::State;
use crate::auth::Caller;
use crate::endpoint::Endpoint;
use crate::problem::Problem;

type Answer<T> = Result<Json<T>, Problem>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::endpoint::endpoints! {"Playbooks":
        post "/api/v1/alerts" post_alerts
            "Take alerts, as Alertmanager and Grafana send them, and start the playbooks whose triggers want them." body AlertMessage => AlertsTaken;
    }
}

async fn post_alerts(
    app: Data<State>,
    caller: Caller,
    body: Json<AlertMessage>,
) -> Answer<AlertsTaken> {
    Ok(Json(app.alert_fired(&caller.0, &body).await?))
}
