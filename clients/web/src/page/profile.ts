// What the pages of this browser share about its player.

export const BUILD = "0.1.0";
export const NAME_KEY = "rallypoint.name";
export const PROFILE_KEY = "rallypoint.profile";
