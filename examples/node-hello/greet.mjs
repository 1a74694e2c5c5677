export const greet = (name = "world") => `${process.env.GREETING ?? "Hello"}, ${name}!`;
