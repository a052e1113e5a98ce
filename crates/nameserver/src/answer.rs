//! From a question to its answer.

use std::time::SystemTime;

use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, ResponseCode};
use hickory_server::net::runtime::Time;
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::zone_handler::MessageResponseBuilder;
use tokio::sync::mpsc;

use crate::{Lookup, Zones};

pub(crate) struct Answerer {
    pub(crate) zones: Zones,
    pub(crate) tell: mpsc::UnboundedSender<Lookup>,
}

#[async_trait::async_trait]
impl RequestHandler for Answerer {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut respond: R,
    ) -> ResponseInfo {
        let asked = SystemTime::now();
        let zones = &self.zones;
        let mut metadata = Metadata::response_from_request(&request.metadata);
        let mut answers = Vec::new();
        let mut question = None;
        match request.request_info() {
            Ok(info) if request.metadata.op_code == OpCode::Query => {
                let (name, kind) = (info.query.name(), info.query.query_type());
                question = Some(format!("{} {kind}", bare(&name.to_string())));
                metadata.authoritative = zones.is_ours(name);
                if zones.fails(name) {
                    metadata.response_code = ResponseCode::ServFail;
                } else if !zones.is_ours(name) {
                    metadata.response_code = ResponseCode::Refused;
                } else if !zones.exists(name) {
                    metadata.response_code = ResponseCode::NXDomain;
                } else {
                    answers = zones.find(name, kind);
                }
            }
            Ok(_) => metadata.response_code = ResponseCode::NotImp,
            Err(_) => metadata.response_code = ResponseCode::FormErr,
        }
        metadata.message_type = MessageType::Response;
        let told = answers
            .iter()
            .map(|record| bare(&record.data.to_string()))
            .collect();
        let builder = MessageResponseBuilder::from_message_request(request);
        let sent = respond
            .send_response(builder.build(metadata, answers, None, None, None))
            .await;
        if let Some(question) = question {
            // Whoever wanted to hear of it may have gone.
            self.tell
                .send(Lookup {
                    asked,
                    answered: SystemTime::now(),
                    question,
                    answers: told,
                })
                .ok();
        }
        sent.unwrap_or_else(|_| failed(request))
    }
}

fn failed(request: &Request) -> ResponseInfo {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    metadata.response_code = ResponseCode::ServFail;
    Header {
        metadata,
        counts: HeaderCounts::default(),
    }
    .into()
}

/// Names without the dot of the root, as people write them.
fn bare(text: &str) -> String {
    text.trim_end_matches('.').to_owned()
}
