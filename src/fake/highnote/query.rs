//! The GraphQL that Highnote is asked with: operations, selections, fragments, values. Enough of
//! the language (October 2021, §2) for every client, none of its rarities.

use std::collections::HashMap;

use serde_json::Value;

/// What is wrong with a document, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Invalid(pub(super) String);

/// How deep selections and values may be nested.
const DEEP: usize = 32;

/// One operation of a document, its fragments resolved.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) root: &'static str,
    pub(super) variables: Vec<Variable>,
    pub(super) selections: Vec<Selection>,
}

/// `$name: type = default`.
#[derive(Debug)]
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) type_name: String,
    pub(super) default: Option<Input>,
}

/// One thing to select.
#[derive(Debug, Clone)]
pub(super) enum Selection {
    /// A field of the object.
    Field(Field),
    /// Fields of the object if it is of this type.
    Fragment {
        on: Option<String>,
        selections: Vec<Self>,
    },
    /// A fragment by its name; gone once the document is read.
    Spread(String),
}

/// A field of an object.
#[derive(Debug, Clone)]
pub(super) struct Field {
    pub(super) key: String,
    pub(super) name: String,
    pub(super) arguments: Vec<(String, Input)>,
    pub(super) selections: Vec<Selection>,
}

/// A value in a document.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Input {
    Variable(String),
    Enum(String),
    Scalar(Value),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl From<&Value> for Input {
    fn from(value: &Value) -> Self {
        match value {
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| (name.clone(), Self::from(value)))
                    .collect(),
            ),
            scalar => Self::Scalar(scalar.clone()),
        }
    }
}

/// The operation called `name`, or the only one.
pub(super) fn parse(text: &str, name: Option<&str>) -> Result<Operation, Invalid> {
    let mut reader = Reader {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    let (mut operations, mut fragments) = (Vec::new(), HashMap::new());
    while reader.peek().is_some() {
        if reader.eat("fragment") {
            let name = reader.name()?;
            reader.expect("on")?;
            let on = Some(reader.name()?);
            reader.directives()?;
            let selections = reader.selections()?;
            fragments.insert(name, Selection::Fragment { on, selections });
        } else {
            operations.push(reader.operation()?);
        }
    }
    let (_, mut operation) = match (name, operations.len()) {
        (_, 0) => return Err(invalid("The document has no operation.")),
        (None, 1) => operations.remove(0),
        (None, _) => {
            return Err(invalid(
                "Must provide operation name if query contains multiple operations.",
            ));
        }
        (Some(name), _) => operations
            .into_iter()
            .find(|(called, _)| called.as_deref() == Some(name))
            .ok_or_else(|| Invalid(format!("Unknown operation named \"{name}\".")))?,
    };
    spread(&mut operation.selections, &fragments, 0)?;
    Ok(operation)
}

fn spread(
    selections: &mut [Selection],
    fragments: &HashMap<String, Selection>,
    depth: usize,
) -> Result<(), Invalid> {
    if depth > DEEP {
        return Err(invalid(
            "Fragments are spread too deep, or within themselves.",
        ));
    }
    for selection in selections {
        if let Selection::Spread(name) = selection {
            *selection = fragments
                .get(name)
                .cloned()
                .ok_or_else(|| Invalid(format!("Unknown fragment \"{name}\".")))?;
        }
        match selection {
            Selection::Field(Field { selections, .. }) | Selection::Fragment { selections, .. } => {
                spread(selections, fragments, depth + 1)?;
            }
            Selection::Spread(_) => {}
        }
    }
    Ok(())
}

fn invalid(reason: &str) -> Invalid {
    Invalid(reason.to_owned())
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Punctuator(&'static str),
    Name(String),
    Literal(Value),
}

fn tokens(text: &str) -> Result<Vec<Token>, Invalid> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(char) = rest.chars().next() {
        let length = match char {
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' => {
                let end = string_end(rest).ok_or_else(|| invalid("Unterminated string."))?;
                let literal = rest.get(..end).unwrap_or_default();
                let value = serde_json::from_str(literal)
                    .map_err(|_| Invalid(format!("Invalid string {literal}.")))?;
                tokens.push(Token::Literal(value));
                end
            }
            '-' | '0'..='9' => {
                let end = span(rest, |char| {
                    char.is_ascii_alphanumeric() || "+-.".contains(char)
                });
                let literal = rest.get(..end).unwrap_or_default();
                let value = serde_json::from_str(literal)
                    .map_err(|_| Invalid(format!("Invalid number {literal}.")))?;
                tokens.push(Token::Literal(value));
                end
            }
            'a'..='z' | 'A'..='Z' | '_' => {
                let end = span(rest, |char| char.is_ascii_alphanumeric() || char == '_');
                tokens.push(Token::Name(rest.get(..end).unwrap_or_default().to_owned()));
                end
            }
            ' ' | '\t' | '\r' | '\n' | ',' | '\u{feff}' => char.len_utf8(),
            _ => {
                let punctuator = [
                    "...", "!", "$", "(", ")", ":", "=", "@", "[", "]", "{", "|", "}",
                ]
                .into_iter()
                .find(|punctuator| rest.starts_with(punctuator))
                .ok_or_else(|| {
                    Invalid(format!("Syntax Error: Unexpected character \"{char}\"."))
                })?;
                tokens.push(Token::Punctuator(punctuator));
                punctuator.len()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    Ok(tokens)
}

fn span(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|char| !belongs(char)).unwrap_or(text.len())
}

fn string_end(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            b'"' if !escaped => return Some(at + 1),
            b'\n' => return None,
            _ => escaped = byte == b'\\' && !escaped,
        }
    }
    None
}

struct Reader {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    fn is(&self, text: &str) -> bool {
        match self.peek() {
            Some(Token::Punctuator(punctuator)) => *punctuator == text,
            Some(Token::Name(name)) => name == text,
            Some(Token::Literal(_)) | None => false,
        }
    }

    fn eat(&mut self, text: &str) -> bool {
        let found = self.is(text);
        self.next += usize::from(found);
        found
    }

    fn expect(&mut self, text: &str) -> Result<(), Invalid> {
        if self.eat(text) {
            Ok(())
        } else {
            Err(self.unexpected(text))
        }
    }

    fn unexpected(&self, wanted: &str) -> Invalid {
        let found = match self.peek() {
            Some(Token::Punctuator(punctuator)) => (*punctuator).to_owned(),
            Some(Token::Name(name)) => name.clone(),
            Some(Token::Literal(value)) => value.to_string(),
            None => "<EOF>".to_owned(),
        };
        Invalid(format!("Syntax Error: Expected {wanted}, found {found}."))
    }

    fn name(&mut self) -> Result<String, Invalid> {
        match self.peek() {
            Some(Token::Name(name)) => {
                let name = name.clone();
                self.next += 1;
                Ok(name)
            }
            _ => Err(self.unexpected("Name")),
        }
    }

    fn operation(&mut self) -> Result<(Option<String>, Operation), Invalid> {
        let mut name = None;
        let mut variables = Vec::new();
        let root = if self.eat("mutation") {
            "Mutation"
        } else if self.eat("query") || self.is("{") {
            "Query"
        } else {
            return Err(self.unexpected("an operation"));
        };
        if matches!(self.peek(), Some(Token::Name(_))) {
            name = Some(self.name()?);
        }
        if self.eat("(") {
            while !self.eat(")") {
                variables.push(self.variable()?);
            }
        }
        self.directives()?;
        let selections = self.selections()?;
        let operation = Operation {
            root,
            variables,
            selections,
        };
        Ok((name, operation))
    }

    fn variable(&mut self) -> Result<Variable, Invalid> {
        self.expect("$")?;
        let name = self.name()?;
        self.expect(":")?;
        let type_name = self.type_name()?;
        let default = if self.eat("=") {
            Some(self.value()?)
        } else {
            None
        };
        self.directives()?;
        Ok(Variable {
            name,
            type_name,
            default,
        })
    }

    fn type_name(&mut self) -> Result<String, Invalid> {
        let mut name = if self.eat("[") {
            let item = self.type_name()?;
            self.expect("]")?;
            format!("[{item}]")
        } else {
            self.name()?
        };
        if self.eat("!") {
            name.push('!');
        }
        Ok(name)
    }

    /// They change nothing here.
    fn directives(&mut self) -> Result<(), Invalid> {
        while self.eat("@") {
            self.name()?;
            self.arguments()?;
        }
        Ok(())
    }

    fn arguments(&mut self) -> Result<Vec<(String, Input)>, Invalid> {
        let mut arguments = Vec::new();
        if self.eat("(") {
            while !self.eat(")") {
                arguments.push(self.member()?);
            }
        }
        Ok(arguments)
    }

    fn member(&mut self) -> Result<(String, Input), Invalid> {
        let name = self.name()?;
        self.expect(":")?;
        Ok((name, self.value()?))
    }

    fn selections(&mut self) -> Result<Vec<Selection>, Invalid> {
        self.expect("{")?;
        self.deeper()?;
        let mut selections = Vec::new();
        while !self.eat("}") {
            selections.push(self.selection()?);
        }
        self.depth -= 1;
        if selections.is_empty() {
            return Err(invalid("Syntax Error: Expected Name, found }."));
        }
        Ok(selections)
    }

    fn selection(&mut self) -> Result<Selection, Invalid> {
        if self.eat("...") {
            return self.fragment();
        }
        let mut name = self.name()?;
        let key = name.clone();
        if self.eat(":") {
            name = self.name()?;
        }
        let arguments = self.arguments()?;
        self.directives()?;
        let selections = if self.is("{") {
            self.selections()?
        } else {
            Vec::new()
        };
        Ok(Selection::Field(Field {
            key,
            name,
            arguments,
            selections,
        }))
    }

    fn fragment(&mut self) -> Result<Selection, Invalid> {
        let on = if self.eat("on") {
            Some(self.name()?)
        } else if matches!(self.peek(), Some(Token::Name(_))) {
            let name = self.name()?;
            self.directives()?;
            return Ok(Selection::Spread(name));
        } else {
            None
        };
        self.directives()?;
        let selections = self.selections()?;
        Ok(Selection::Fragment { on, selections })
    }

    fn value(&mut self) -> Result<Input, Invalid> {
        self.deeper()?;
        let value = match self.take() {
            Some(Token::Punctuator("$")) => Input::Variable(self.name()?),
            Some(Token::Punctuator("[")) => {
                let mut items = Vec::new();
                while !self.eat("]") {
                    items.push(self.value()?);
                }
                Input::List(items)
            }
            Some(Token::Punctuator("{")) => {
                let mut members = Vec::new();
                while !self.eat("}") {
                    members.push(self.member()?);
                }
                Input::Object(members)
            }
            Some(Token::Literal(value)) => Input::Scalar(value),
            Some(Token::Name(name)) => match name.as_str() {
                "true" => Input::Scalar(Value::Bool(true)),
                "false" => Input::Scalar(Value::Bool(false)),
                "null" => Input::Scalar(Value::Null),
                _ => Input::Enum(name),
            },
            Some(Token::Punctuator(_)) | None => {
                self.next -= 1;
                return Err(self.unexpected("a value"));
            }
        };
        self.depth -= 1;
        Ok(value)
    }

    fn deeper(&mut self) -> Result<(), Invalid> {
        self.depth += 1;
        if self.depth > DEEP {
            return Err(invalid("Syntax Error: nested too deep."));
        }
        Ok(())
    }
}
