//! Alerts from a monitor.

use actix_web::web::{Data, Json};

use crate::app::AppError;
use crate::app::alerts::{AlertMessage, AlertsTaken};
use crate::http::State;
use crate::http::auth::Caller;
use crate::http::endpoint::Endpoint;

type Answer<T> = Result<Json<T>, AppError>;

pub fn endpoints() -> Vec<Endpoint> {
    crate::http::endpoint::endpoints! {"Playbooks":
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
