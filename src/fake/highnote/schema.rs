//! The part of Highnote's schema that client tokens are about, and what it makes of a query.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::query::{Field, Input, Invalid, Operation, Selection};

/// A mutation that makes a client token.
#[derive(Debug)]
pub(super) struct Mint {
    pub(super) mutation: &'static str,
    /// The type of its one argument, `input`; nothing for a mutation without arguments.
    input: Option<&'static str>,
    /// Which members of the input name what the token is for.
    pub(super) subjects: &'static [&'static str],
    /// The type of the permissions, and which there are.
    permission: &'static str,
    permissions: &'static [&'static str],
    /// Whether the token is good for one use only.
    pub(super) single_use: bool,
}

/// What a token of a mutation without permissions may do.
pub(super) const TOKENIZE_ACCOUNT_HOLDER: &str = "TOKENIZE_ACCOUNT_HOLDER";
/// The same, for authorized users.
pub(super) const TOKENIZE_AUTHORIZED_USER: &str = "TOKENIZE_AUTHORIZED_USER";

/// The names of the mutations, inputs, members and permissions are those of Highnote's schema; the
/// names of the enumerations are, where it does not show them, our guess.
pub(super) const MINTS: [Mint; 9] = [
    Mint {
        mutation: "generatePaymentCardClientToken",
        input: Some("GeneratePaymentCardClientTokenInput"),
        subjects: &["paymentCardId"],
        permission: "PaymentCardClientTokenPermission",
        permissions: &[
            "READ_RESTRICTED_DETAILS",
            "SET_PAYMENT_CARD_PIN",
            "MANAGE_PAYMENT_CARD",
            "MANAGE_CARD_FULFILLMENT",
            "READ_FULFILLMENT_DETAILS",
        ],
        single_use: false,
    },
    Mint {
        mutation: "generateTokenizeAccountHolderClientToken",
        input: None,
        subjects: &[],
        permission: "",
        permissions: &[TOKENIZE_ACCOUNT_HOLDER],
        single_use: false,
    },
    Mint {
        mutation: "generateTokenizeAuthorizedUserClientToken",
        input: None,
        subjects: &[],
        permission: "",
        permissions: &[TOKENIZE_AUTHORIZED_USER],
        single_use: false,
    },
    Mint {
        mutation: "generateDocumentUploadClientToken",
        input: Some("GenerateDocumentUploadClientTokenInput"),
        subjects: &["documentUploadSessionId"],
        permission: "DocumentUploadClientTokenPermission",
        permissions: &["MANAGE_DOCUMENT_UPLOAD_SESSION"],
        single_use: false,
    },
    Mint {
        mutation: "generateDirectDepositDetailClientToken",
        input: Some("GenerateDirectDepositDetailClientTokenInput"),
        subjects: &["directDepositDetailId"],
        permission: "DirectDepositDetailClientTokenPermission",
        permissions: &["READ_RESTRICTED_DETAILS"],
        single_use: false,
    },
    Mint {
        mutation: "generateExternalBankAccountDetailClientToken",
        input: Some("GenerateExternalBankAccountDetailClientTokenInput"),
        subjects: &["externalBankAccountDetailId"],
        permission: "ExternalBankAccountDetailClientTokenPermission",
        permissions: &["READ_RESTRICTED_DETAILS"],
        single_use: false,
    },
    Mint {
        mutation: "generatePaymentMethodTokenizationClientToken",
        input: Some("GeneratePaymentMethodTokenizationClientTokenInput"),
        subjects: &[],
        permission: "PaymentMethodTokenizationClientTokenPermission",
        permissions: &["TOKENIZE_PAYMENT_METHOD"],
        single_use: true,
    },
    Mint {
        mutation: "generateInitiateSecureDepositClientToken",
        input: Some("GenerateInitiateSecureDepositClientTokenInput"),
        subjects: &["fromFinancialAccountId", "toFinancialAccountId"],
        permission: "InitiateSecureDepositClientTokenPermission",
        permissions: &["INITIATE_SECURE_DEPOSIT"],
        single_use: false,
    },
    Mint {
        mutation: "generateCreateScheduledTransferClientToken",
        input: Some("GenerateCreateScheduledTransferClientTokenInput"),
        subjects: &["fromFinancialAccountId", "toFinancialAccountId"],
        permission: "CreateScheduledTransferClientTokenPermission",
        permissions: &["CREATE_SCHEDULED_TRANSFER"],
        single_use: false,
    },
];

/// The mutation of this name, if it makes client tokens.
pub(super) fn mint(name: &str) -> Option<&'static Mint> {
    MINTS.iter().find(|mint| mint.mutation == name)
}

impl Mint {
    /// What the token may do: what was asked for, or all there is if nothing can be asked for.
    pub(super) fn permissions(&self, input: &Value) -> Vec<String> {
        match input.get("permissions").and_then(Value::as_array) {
            Some(asked) => asked
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
            None => self
                .permissions
                .iter()
                .map(|&name| name.to_owned())
                .collect(),
        }
    }
}

/// A root field with its arguments, as the types want them.
pub(super) struct Call<'a> {
    pub(super) field: &'a Field,
    pub(super) arguments: Map<String, Value>,
}

/// Checks a whole operation, as a server does before it executes any of it.
pub(super) fn check<'a>(
    operation: &'a Operation,
    values: &Map<String, Value>,
) -> Result<Vec<Call<'a>>, Invalid> {
    let mut types = Types {
        operation,
        values,
        used: Vec::new(),
    };
    types.check_variables()?;
    let mut calls = Vec::new();
    for selection in &operation.selections {
        let Selection::Field(field) = selection else {
            return Err(Invalid(
                "This API takes no fragments at the root.".to_owned(),
            ));
        };
        types.check_field(operation.root, field)?;
        let arguments = types.arguments(operation.root, field)?;
        calls.push(Call { field, arguments });
    }
    let unused = operation
        .variables
        .iter()
        .find(|variable| !types.used.contains(&variable.name));
    match unused {
        Some(variable) => Err(Invalid(format!(
            "Variable \"${}\" is never used.",
            variable.name
        ))),
        None => Ok(calls),
    }
}

struct Types<'a> {
    operation: &'a Operation,
    values: &'a Map<String, Value>,
    used: Vec<String>,
}

impl Types<'_> {
    fn check_variables(&self) -> Result<(), Invalid> {
        for variable in &self.operation.variables {
            let bare = variable.type_name.replace(['[', ']', '!'], "");
            if !is_input_type(&bare) {
                return Err(Invalid(format!("Unknown type \"{bare}\".")));
            }
            let value = self.values.get(&variable.name);
            let place = format!("${}", variable.name);
            match value {
                Some(value) => {
                    coerce_value(&Input::from(value), &variable.type_name, &place)?;
                }
                None if variable.default.is_none() && variable.type_name.ends_with('!') => {
                    return Err(Invalid(format!(
                        "Variable \"{place}\" of required type \"{}\" was not provided.",
                        variable.type_name
                    )));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn check_field(&self, parent: &str, field: &Field) -> Result<(), Invalid> {
        let Some(found) = field_type(parent, &field.name) else {
            return Err(Invalid(format!(
                "Cannot query field \"{}\" on type \"{parent}\".",
                field.name
            )));
        };
        match (found, field.selections.is_empty()) {
            ("String", true) => Ok(()),
            ("String", false) => Err(Invalid(format!(
                "Field \"{}\" must not have a selection since its type has no subfields.",
                field.name
            ))),
            (_, true) => Err(Invalid(format!(
                "Field \"{}\" of type \"{found}\" must have a selection of subfields.",
                field.name
            ))),
            (_, false) => self.check_selections(found, &field.selections),
        }
    }

    fn check_selections(&self, parent: &str, selections: &[Selection]) -> Result<(), Invalid> {
        for selection in selections {
            match selection {
                Selection::Field(field) => self.check_field(parent, field)?,
                Selection::Fragment { on, selections } => {
                    let on = on.as_deref().unwrap_or(parent);
                    if on != parent && !members(parent).contains(&on) {
                        return Err(Invalid(format!(
                            "Fragment cannot be spread here as objects of type \"{parent}\" can never be of type \"{on}\"."
                        )));
                    }
                    self.check_selections(on, selections)?;
                }
                Selection::Spread(name) => {
                    return Err(Invalid(format!("Unknown fragment \"{name}\".")));
                }
            }
        }
        Ok(())
    }

    fn arguments(&mut self, root: &str, field: &Field) -> Result<Map<String, Value>, Invalid> {
        let known = root_arguments(root, &field.name);
        let mut arguments = Map::new();
        for (name, input) in &field.arguments {
            let Some((_, type_name)) = known.iter().find(|(known, _)| known == name) else {
                return Err(Invalid(format!(
                    "Unknown argument \"{name}\" on field \"{root}.{}\".",
                    field.name
                )));
            };
            let input = self.resolve(input, type_name)?;
            arguments.insert(name.clone(), coerce_value(&input, type_name, name)?);
        }
        match known
            .iter()
            .find(|(name, type_name)| type_name.ends_with('!') && !arguments.contains_key(*name))
        {
            Some((name, type_name)) => Err(Invalid(format!(
                "Field \"{}\" argument \"{name}\" of type \"{type_name}\" is required, but it was not provided.",
                field.name
            ))),
            None => Ok(arguments),
        }
    }

    /// `input` with its variables replaced, each of which must have been declared with the type of
    /// its place.
    fn resolve(&mut self, input: &Input, type_name: &str) -> Result<Input, Invalid> {
        let bare = type_name.trim_end_matches('!');
        match input {
            Input::Variable(name) => self.variable(name, type_name),
            Input::List(items) => {
                let item_type = bare
                    .strip_prefix('[')
                    .and_then(|bare| bare.strip_suffix(']'))
                    .unwrap_or(bare);
                let items: Result<_, _> = items
                    .iter()
                    .map(|item| self.resolve(item, item_type))
                    .collect();
                Ok(Input::List(items?))
            }
            Input::Object(members) => {
                let fields = input_fields(bare);
                let members: Result<_, Invalid> = members
                    .iter()
                    .map(|(name, input)| {
                        let type_name = fields
                            .iter()
                            .find(|(field, _)| field == name)
                            .map_or_else(String::new, |(_, type_name)| type_name.clone());
                        Ok((name.clone(), self.resolve(input, &type_name)?))
                    })
                    .collect();
                Ok(Input::Object(members?))
            }
            Input::Enum(_) | Input::Scalar(_) => Ok(input.clone()),
        }
    }

    fn variable(&mut self, name: &str, type_name: &str) -> Result<Input, Invalid> {
        let Some(variable) = self
            .operation
            .variables
            .iter()
            .find(|variable| variable.name == name)
        else {
            return Err(Invalid(format!("Variable \"${name}\" is not defined.")));
        };
        self.used.push(name.to_owned());
        let declared = &variable.type_name;
        let fits = type_name.is_empty()
            || declared == type_name
            || declared.strip_suffix('!') == Some(type_name)
            || (variable.default.is_some()
                && Some(declared.as_str()) == type_name.strip_suffix('!'));
        if !fits {
            return Err(Invalid(format!(
                "Variable \"${name}\" of type \"{declared}\" used in position expecting type \"{type_name}\"."
            )));
        }
        Ok(match (self.values.get(name), &variable.default) {
            (Some(value), _) => Input::from(value),
            (None, Some(default)) => default.clone(),
            (None, None) => Input::Scalar(Value::Null),
        })
    }
}

/// `input` as JSON, if it is of this type.
fn coerce_value(input: &Input, type_name: &str, place: &str) -> Result<Value, Invalid> {
    let wrong = |why: &str| {
        Invalid(format!(
            "Variable value at \"{place}\" is invalid: Expected \"{type_name}\", {why}."
        ))
    };
    if *input == Input::Scalar(Value::Null) {
        return if type_name.ends_with('!') {
            Err(wrong("which is not to be null"))
        } else {
            Ok(Value::Null)
        };
    }
    let bare = type_name.trim_end_matches('!');
    if let Some(item) = bare
        .strip_prefix('[')
        .and_then(|bare| bare.strip_suffix(']'))
    {
        let one; // a single value is a list of one (§3.11)
        let items = match input {
            Input::List(items) => items.as_slice(),
            single => {
                one = [single.clone()];
                &one
            }
        };
        let items: Result<Vec<_>, _> = items
            .iter()
            .map(|input| coerce_value(input, item, place))
            .collect();
        return Ok(Value::Array(items?));
    }
    match (bare, input) {
        ("ID", Input::Scalar(Value::Number(number))) if number.is_i64() || number.is_u64() => {
            Ok(Value::String(number.to_string()))
        }
        ("ID" | "String", Input::Scalar(Value::String(text))) => Ok(Value::String(text.clone())),
        ("ID" | "String", _) => Err(wrong("which is a string")),
        (_, Input::Enum(value) | Input::Scalar(Value::String(value)))
            if enum_values(bare).contains(&value.as_str()) =>
        {
            Ok(Value::String(value.clone()))
        }
        (_, Input::Object(members)) if is_input_object(bare) => coerce_object(members, bare, place),
        _ if is_input_object(bare) => Err(wrong("which is an object")),
        _ => Err(wrong("and this is none of its values")),
    }
}

fn coerce_object(
    members: &[(String, Input)],
    type_name: &str,
    place: &str,
) -> Result<Value, Invalid> {
    let fields = input_fields(type_name);
    let given: HashMap<_, _> = members.iter().map(|(name, input)| (name, input)).collect();
    let mut object = Map::new();
    if fields.is_empty() {
        return Ok(Value::Object(object)); // a person's details; nobody reads them here
    }
    if let Some((unknown, _)) = members
        .iter()
        .find(|(name, _)| !fields.iter().any(|(field, _)| field == name))
    {
        return Err(Invalid(format!(
            "Variable value at \"{place}\" is invalid: Field \"{unknown}\" is not defined by type \"{type_name}\"."
        )));
    }
    for (name, field_type) in &fields {
        match given.get(&(*name).to_owned()) {
            Some(input) => {
                let place = format!("{place}.{name}");
                object.insert((*name).to_owned(), coerce_value(input, field_type, &place)?);
            }
            None if field_type.ends_with('!') => {
                return Err(Invalid(format!(
                    "Variable value at \"{place}\" is invalid: Field \"{name}\" of required type \"{field_type}\" was not provided."
                )));
            }
            None => {}
        }
    }
    Ok(Value::Object(object))
}

/// Inputs of which nobody here reads the members.
const OPAQUE: [&str; 3] = [
    "CreateUSBusinessAccountHolderInput",
    "CreateUSPersonAccountHolderInput",
    "CreateUSPersonAuthorizedUserInput",
];

fn is_input_type(name: &str) -> bool {
    matches!(name, "ID" | "String") || is_input_object(name) || !enum_values(name).is_empty()
}

fn is_input_object(name: &str) -> bool {
    OPAQUE.contains(&name) || !input_fields(name).is_empty()
}

fn enum_values(name: &str) -> &'static [&'static str] {
    MINTS
        .iter()
        .find(|mint| mint.permission == name && !name.is_empty())
        .map_or(&[], |mint| mint.permissions)
}

/// The members of an input object. That of the document mutations is our guess.
fn input_fields(name: &str) -> Vec<(&'static str, String)> {
    let text = |names: &[&'static str]| -> Vec<(&'static str, String)> {
        names
            .iter()
            .map(|&name| (name, "String!".to_owned()))
            .collect()
    };
    match name {
        "SetPinForPaymentCardInput" => vec![
            ("paymentCardId", "ID!".to_owned()),
            ("newPin", "String!".to_owned()),
        ],
        "StartDocumentUploadSessionInput"
        | "CreateDocumentUploadLinkInput"
        | "EndDocumentUploadSessionInput" => text(&["documentUploadSessionId"]),
        _ => MINTS
            .iter()
            .find(|mint| mint.input == Some(name))
            .map(|mint| {
                let mut fields: Vec<_> = mint
                    .subjects
                    .iter()
                    .map(|&subject| (subject, "ID!".to_owned()))
                    .collect();
                fields.push(("permissions", format!("[{}!]!", mint.permission)));
                fields
            })
            .unwrap_or_default(),
    }
}

fn root_arguments(root: &str, name: &str) -> Vec<(&'static str, String)> {
    let input = |name: &str| vec![("input", format!("{name}!"))];
    match (root, name) {
        ("Query", "node") => vec![("id", "ID!".to_owned())],
        ("Mutation", "setPinForPaymentCard") => input("SetPinForPaymentCardInput"),
        ("Mutation", "startDocumentUploadSession") => input("StartDocumentUploadSessionInput"),
        ("Mutation", "createDocumentUploadLink") => input("CreateDocumentUploadLinkInput"),
        ("Mutation", "endDocumentUploadSession") => input("EndDocumentUploadSessionInput"),
        ("Mutation", "tokenizeUSBusinessAccountHolder") => {
            input("CreateUSBusinessAccountHolderInput")
        }
        ("Mutation", "tokenizeUSPersonAccountHolder") => input("CreateUSPersonAccountHolderInput"),
        ("Mutation", "tokenizeUSPersonAuthorizedUser") => {
            input("CreateUSPersonAuthorizedUserInput")
        }
        _ => mint(name)
            .and_then(|mint| mint.input)
            .map_or_else(Vec::new, input),
    }
}

/// The type of a field without its wrappers; every scalar is called `String`.
fn field_type(parent: &str, field: &str) -> Option<&'static str> {
    if field == "__typename" {
        return Some("String");
    }
    match (parent, field) {
        ("Query", "ping")
        | ("ClientToken", "value" | "expirationDate" | "usage")
        | ("AccessDeniedError", "message")
        | ("FieldUserError", "code" | "description" | "errorPath" | "path")
        | ("Node" | "PaymentCard" | "DirectDepositDetail" | "ExternalBankAccountDetail", "id")
        | ("PaymentCard", "last4" | "status")
        | ("PaymentCardRestrictedDetails", "number" | "cvv")
        | ("DirectDepositDetailRestrictedDetails", "number" | "routingNumber")
        | ("ExternalBankAccountDetailRestrictedDetails", "accountNumber" | "routingNumber")
        | ("DocumentUploadSession", "id")
        | ("TokenizedDetails", "token")
        | ("Bank", "name") => Some("String"),
        ("Query", "node") => Some("Node"),
        ("UserError", "errors") => Some("FieldUserError"),
        ("PaymentCard", "restrictedDetails") => Some("PaymentCardRestrictedDetailsResult"),
        ("DirectDepositDetail", "restrictedDetails") => {
            Some("DirectDepositDetailRestrictedDetailsResult")
        }
        ("ExternalBankAccountDetail", "restrictedDetails") => {
            Some("ExternalBankAccountDetailRestrictedDetailsResult")
        }
        ("DirectDepositDetailRestrictedDetails", "bank") => Some("Bank"),
        ("Mutation", "setPinForPaymentCard") => Some("SetPinForPaymentCardPayload"),
        (
            "Mutation",
            "startDocumentUploadSession" | "createDocumentUploadLink" | "endDocumentUploadSession",
        ) => Some("DocumentUploadSessionPayload"),
        (
            "Mutation",
            "tokenizeUSBusinessAccountHolder"
            | "tokenizeUSPersonAccountHolder"
            | "tokenizeUSPersonAuthorizedUser",
        ) => Some("TokenizePayload"),
        ("Mutation", name) if mint(name).is_some() => Some("ClientTokenPayload"),
        _ => None,
    }
}

/// The types that an object of an abstract type can have.
fn members(name: &str) -> &'static [&'static str] {
    match name {
        "Node" => &[
            "PaymentCard",
            "DirectDepositDetail",
            "ExternalBankAccountDetail",
        ],
        "ClientTokenPayload" => &["ClientToken", "UserError", "AccessDeniedError"],
        "SetPinForPaymentCardPayload" => &["PaymentCard", "UserError", "AccessDeniedError"],
        "DocumentUploadSessionPayload" => {
            &["DocumentUploadSession", "UserError", "AccessDeniedError"]
        }
        "TokenizePayload" => &["TokenizedDetails", "UserError", "AccessDeniedError"],
        "PaymentCardRestrictedDetailsResult" => {
            &["PaymentCardRestrictedDetails", "AccessDeniedError"]
        }
        "DirectDepositDetailRestrictedDetailsResult" => {
            &["DirectDepositDetailRestrictedDetails", "AccessDeniedError"]
        }
        "ExternalBankAccountDetailRestrictedDetailsResult" => &[
            "ExternalBankAccountDetailRestrictedDetails",
            "AccessDeniedError",
        ],
        _ => &[],
    }
}

/// Of `value`, what was selected; nothing else leaves the server.
pub(super) fn project(selections: &[Selection], value: &Value) -> Value {
    match value {
        Value::Array(items) => items.iter().map(|item| project(selections, item)).collect(),
        Value::Object(object) if !selections.is_empty() => {
            let mut projected = Map::new();
            select(selections, object, &mut projected);
            Value::Object(projected)
        }
        scalar => scalar.clone(),
    }
}

fn select(selections: &[Selection], object: &Map<String, Value>, into: &mut Map<String, Value>) {
    let type_name = object
        .get("__typename")
        .and_then(Value::as_str)
        .unwrap_or_default();
    for selection in selections {
        match selection {
            Selection::Field(field) => {
                let value = object.get(&field.name).unwrap_or(&Value::Null);
                into.insert(field.key.clone(), project(&field.selections, value));
            }
            Selection::Fragment { on, selections } => {
                let applies = on
                    .as_deref()
                    .is_none_or(|on| on == type_name || members(on).contains(&type_name));
                if applies {
                    select(selections, object, into);
                }
            }
            Selection::Spread(_) => {}
        }
    }
}
